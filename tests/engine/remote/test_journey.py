"""A branch that goes on elsewhere: no token twice, none missing, and what was computed again is told."""

from contextlib import nullcontext
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.base import Branch, Output, Prompt
from app.engine.remote.journey import MAX_MOVES, Journey
from app.engine.replica import TokenPart, TokenRequest
from app.errors import NoReplica

PREFIX = (1, 2, 3, 4, 5)


@dataclass
class Words:
    """A reader for which each token is a word."""

    tokens: list[int] = field(default_factory=list)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """All tokens so far."""
        return tuple(self.tokens)

    def read(self, part: TokenPart) -> Output:
        """Return an output with the part's own values."""
        self.tokens += part.token_ids
        text = "".join(f"{one} " for one in part.token_ids)
        return Output(text, part.token_ids, 5, part.cached_tokens or 0, part.finish_reason)


def journey(*, is_constrained: bool = False, **sampling: object) -> Journey:
    """The journey of a branch of up to 20 tokens."""
    prompt = Prompt(PREFIX, 20, is_constrained=is_constrained)
    branch = Branch(id="r-0", prompt=prompt, prefix=PREFIX, max_tokens=20)
    return Journey(branch, TokenRequest(id="r-0", token_ids=PREFIX, sampling={"max_tokens": 20, **sampling}), Words())


def test_it_goes_on_from_the_tokens_that_arrived() -> None:
    """The next replica gets them as a prefix, and may generate so many fewer."""
    moving = journey(min_tokens=3)
    moving.read(TokenPart((10, 11)))
    moving.move("a")
    request = moving.next_request()
    assert request.token_ids == (*PREFIX, 10, 11)
    assert (request.sampling["max_tokens"], request.sampling["min_tokens"]) == (18, 1)
    last = moving.read(TokenPart((12,), finish_reason="stop", cached_tokens=4))
    assert (last.token_ids, last.cached_tokens, last.recomputed_tokens) == ((12,), 0, 3)


def test_nothing_is_recomputed_on_one_replica() -> None:
    """The cached tokens are its own."""
    staying = journey()
    last = staying.read(TokenPart((10,), finish_reason="stop", cached_tokens=4))
    assert (last.cached_tokens, last.recomputed_tokens) == (4, 0)


def test_nothing_is_recomputed_where_nothing_had_arrived() -> None:
    """A replica that is gone has computed nothing that is known of."""
    moving = journey()
    moving.move("a")
    last = moving.read(TokenPart((10,), finish_reason="stop", cached_tokens=4))
    assert (last.cached_tokens, last.recomputed_tokens) == (4, 0)


def test_every_replica_that_computed_the_prefix_counts() -> None:
    """Two of three computed it in vain."""
    moving = journey()
    moving.read(TokenPart((10, 11)))
    moving.move("a")
    moving.read(TokenPart((12,)))
    moving.move("b")
    last = moving.read(TokenPart((13,), finish_reason="stop", cached_tokens=1))
    assert last.recomputed_tokens == (5 + 2) + (5 + 3 - 1)


def test_tokens_that_were_generated_twice_count_once_as_lost() -> None:
    """The second replica had repeated only one of two."""
    moving = journey(is_constrained=True)
    moving.read(TokenPart((10, 11)))
    moving.move("a")
    moving.read(TokenPart((10,)))
    moving.move("b")
    last = moving.read(TokenPart((10, 11, 12), finish_reason="stop", cached_tokens=5))
    assert last.recomputed_tokens == 5 + 2 + 1


def test_an_end_counts_what_was_lost_before() -> None:
    """Also where no replica tells the end."""
    moving = journey()
    moving.read(TokenPart((10,)))
    moving.move("a")
    moving.read(TokenPart(tuple(range(19))))
    moving.move("b")
    assert moving.next_request() is None
    assert moving.end("length").recomputed_tokens == 5 + 1


def test_an_end_before_all_is_repeated_is_another_answer() -> None:
    """The caller has more of it already. A branch that is halted may end there."""
    for reason in ("stop", "length", "abort"):
        moving = journey(is_constrained=True)
        moving.read(TokenPart((10, 11)))
        moving.move("a")
        with nullcontext() if reason == "abort" else pytest.raises(NoReplica, match="did not repeat"):
            assert moving.read(TokenPart((10,), finish_reason=reason)).token_ids == ()


def test_it_ends_where_all_tokens_have_arrived() -> None:
    """Only the end was lost."""
    moving = journey()
    moving.read(TokenPart(tuple(range(20))))
    moving.move("a")
    assert moving.next_request() is None
    assert moving.end("length").finish_reason == "length"


@pytest.mark.parametrize("options", [{"is_constrained": True}, {"presence_penalty": 0.5}, {"frequency_penalty": -1}])
def test_what_another_replica_cannot_go_on_with_is_generated_again(options) -> None:
    """A grammar and penalties look at the answer from its first token on. What was passed on already is not passed on again."""
    moving = journey(**options)
    moving.read(TokenPart((10, 11)))
    moving.move("a")
    assert moving.next_request().token_ids == PREFIX
    assert moving.read(TokenPart((10,))) is None
    assert moving.read(TokenPart((11, 12))).token_ids == (12,)
    last = moving.read(TokenPart((13,), finish_reason="stop", cached_tokens=5))
    assert last.recomputed_tokens == 2


def test_other_tokens_than_those_that_were_passed_on_end_it() -> None:
    """They cannot be taken back."""
    moving = journey(is_constrained=True)
    moving.read(TokenPart((10, 11)))
    moving.move("a")
    with pytest.raises(NoReplica, match="did not repeat"):
        moving.read(TokenPart((10, 99)))


def test_a_branch_that_ends_every_replica_does_not_end_them_all() -> None:
    """It is given up after a few."""
    moving = journey()
    for name in "abcdef"[:MAX_MOVES]:
        moving.move(name)
    with pytest.raises(NoReplica, match="Several replicas"):
        moving.move("z")


@given(st.lists(st.integers(0, 9), max_size=MAX_MOVES), st.booleans())
def test_no_token_is_missing_or_twice(sizes, is_constrained) -> None:
    """Wherever replicas fail. Each generates the same tokens for the same prefix."""
    moving, answer = journey(is_constrained=is_constrained), list(range(100, 120))
    passed: list[int] = []

    def run(request: TokenRequest, size: int | None) -> None:
        start = len(request.token_ids) - len(PREFIX)
        for token in answer[start:][:size]:
            if (output := moving.read(TokenPart((token,)))) is not None:
                passed.extend(output.token_ids)

    for size in sizes:
        run(moving.next_request(), size)
        moving.move("a")
    if (request := moving.next_request()) is not None:
        run(request, None)
    assert passed == answer
