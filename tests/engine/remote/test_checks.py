"""What a replica may answer to a branch."""

import pytest

from app.engine.remote.checks import AnswerChecks
from app.engine.replica import ReplicaFailed, TokenPart, TokenRequest
from app.engine.speculation import Drafts


def checks(**sampling: object) -> AnswerChecks:
    """Of a branch of up to three tokens, for a model with a hundred."""
    return AnswerChecks(TokenRequest(id="r-0", token_ids=(1, 2), sampling={"max_tokens": 3, **sampling}), 100)


PROMPT = [None, {"2": {"logprob": -1.0}}]


def test_what_may_be() -> None:
    """Every end that the engine knows; log-probabilities where they were asked for."""
    for reason in ("stop", "length", "abort", "repetition"):
        checks().check(TokenPart((0, 99), finish_reason=reason, cached_tokens=2, drafts=Drafts(3, 2)))
    checks(logprobs=1).check(TokenPart((5,), (((5, -1.0), (6, -2.0)),)))
    checks(logprobs=1).check(TokenPart(finish_reason="abort"))
    checks(prompt_logprobs=0).check(TokenPart((5,), finish_reason="length", prompt_logprobs=PROMPT))


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (TokenPart((-1,)), "not of the model"),
        (TokenPart((100,)), "not of the model"),
        (TokenPart((2**70,)), "not of the model"),
        (TokenPart((1, 1, 1, 1)), "more tokens"),
        (TokenPart((1,), finish_reason="error"), "no reason that is known"),
        (TokenPart((1,), finish_reason="content_filter"), "no reason that is known"),
        (TokenPart((1,), (((2, -1.0),),)), "those of its tokens"),
        (TokenPart((1,), (((1, -1.0), (-7, -1.0)),)), "those of its tokens"),
        (TokenPart((1,), (((1, -1.0),), ((1, -1.0),))), "those of its tokens"),
        (TokenPart((), (((1, -1.0),),)), "those of its tokens"),
        (TokenPart((1,), finish_reason="stop", cached_tokens=3), "cache"),
        (TokenPart((1,), finish_reason="stop", cached_tokens=-1), "cache"),
        (TokenPart((1,), finish_reason="stop", drafts=Drafts(1, 2)), "drafted"),
        (TokenPart((1,), finish_reason="stop", drafts=Drafts(-1, -2)), "drafted"),
    ],
)
def test_nonsense_is_a_failure(part, why) -> None:
    """Which takes the replica out, and moves the branch."""
    with pytest.raises(ReplicaFailed, match=why):
        checks().check(part)


def test_too_many_tokens_are_so_over_all_parts() -> None:
    """The limit is of the branch."""
    answer = checks()
    answer.check(TokenPart((1, 2)))
    with pytest.raises(ReplicaFailed, match="more tokens"):
        answer.check(TokenPart((3, 4)))


def test_log_probabilities_that_were_asked_for_may_not_be_missing() -> None:
    """One for each token."""
    with pytest.raises(ReplicaFailed, match="those of its tokens"):
        checks(logprobs=0).check(TokenPart((1,)))


@pytest.mark.parametrize(
    "positions", [None, [], [None], [None, None], [None, {"3": {}}], [None, {"2": {}, "x": {}}], [None, {"2": {}, "999": {}}], PROMPT * 2]
)  # fmt: skip
def test_log_probabilities_of_another_prompt_are_a_failure(positions) -> None:
    """One entry for each token of the prompt, but the first."""
    with pytest.raises(ReplicaFailed, match="those of the prompt"):
        checks(prompt_logprobs=1).check(TokenPart((5,), finish_reason="length", prompt_logprobs=positions))
