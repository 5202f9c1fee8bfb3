"""What is checked of a replica before it gets branches."""

import math

import pytest

from app.engine.remote.joining import SAMPLE, Joining
from app.engine.replica import ReplicaFailed, ReplicaUnfit, RequestFailed, RequestRefused, TokenPart

pytestmark = pytest.mark.anyio

TOKENS = tuple(SAMPLE.encode())


def answering(monkeypatch, replica, logprob: float, tokens=TOKENS):
    """A replica that computes this log-probability for each token of the sample."""

    async def generate(request):
        size = len(request.token_ids)
        assert request.token_ids == TOKENS[:size]
        assert request.sampling["logprob_token_ids"] == [TOKENS[size], TOKENS[size]]
        ranked = ((tokens[size], logprob),) if size < len(tokens) else ()
        yield TokenPart((1,), (((1, -9.0), *ranked),), finish_reason="length")

    monkeypatch.setattr(replica, "generate", generate)
    return replica


def joining(length: int = 100) -> Joining:
    """For a model whose tokens are bytes."""
    return Joining(lambda text: tuple(text.encode()), lambda: length)


async def test_replicas_that_compute_the_same_may_join(fake_replica, monkeypatch) -> None:
    """Number formats make a small difference."""
    check = joining().check
    for logprob in (-2.0, -2.05, -1.9):
        assert (await check(answering(monkeypatch, fake_replica("a"), logprob))).model == "m"


@pytest.mark.parametrize(
    ("logprob", "why"),
    [(-3.0, "other weights"), (math.nan, "not numbers"), (-9999.0, "not numbers"), (-math.inf, "not numbers")],
)
async def test_replicas_that_compute_something_else_may_not(fake_replica, monkeypatch, logprob, why) -> None:
    """Another model under the same name, or one that is broken."""
    check = joining().check
    await check(answering(monkeypatch, fake_replica("a"), -2.0))
    with pytest.raises(ReplicaUnfit, match=why):
        await check(answering(monkeypatch, fake_replica("b"), logprob))


@pytest.mark.parametrize("tokens", [(), TOKENS[:9], TOKENS[::-1]])
async def test_log_probabilities_of_other_tokens_are_none(fake_replica, monkeypatch, tokens) -> None:
    """An answer to another question."""
    with pytest.raises(ReplicaUnfit):
        await joining().check(answering(monkeypatch, fake_replica("a"), -2.0, tokens))


async def test_another_tokenizer_is_told(fake_replica) -> None:
    """Token ids would mean other words there."""
    with pytest.raises(ReplicaUnfit, match="another tokenizer"):
        await Joining(lambda text: (1, 2), lambda: 100).check(fake_replica("a"))


async def test_a_shorter_context_is_told(fake_replica) -> None:
    """Callers know the longer one."""
    with pytest.raises(ReplicaUnfit, match="context has 100 tokens, and callers may use 200"):
        await joining(200).check(fake_replica("a"))


async def test_a_replica_that_fails_at_the_sample_is_tried_again(fake_replica, monkeypatch) -> None:
    """It may only just have begun."""
    replica = fake_replica("a")

    async def generate(request):
        raise RequestFailed
        yield

    monkeypatch.setattr(replica, "generate", generate)
    with pytest.raises(ReplicaFailed, match="fails at a sample"):
        await joining().check(replica)


async def test_a_replica_that_refuses_the_sample_is_unfit(fake_replica, monkeypatch) -> None:
    """It would refuse prompts too."""
    replica = fake_replica("a")

    async def generate(request):
        raise RequestRefused("no log-probabilities")
        yield

    monkeypatch.setattr(replica, "generate", generate)
    with pytest.raises(ReplicaUnfit, match="no log-probabilities"):
        await joining().check(replica)
