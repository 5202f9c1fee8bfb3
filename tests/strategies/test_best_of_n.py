"""Choosing: golden run and verifiers."""

import math

import pytest

from strategies.best_of_n import BestOfN, BestOfNParams, opening_words
from strategies.core.parameters import Params
from strategies.core.ports import ignore_events
from strategies.core.results import Result
from strategies.core.values import AnswerKind, ScoredCandidate, StopReason, TokenLogprob
from strategies.verifiers.likelihood import Likelihood
from strategies.verifiers.self_certainty import SelfCertainty

pytestmark = pytest.mark.anyio


async def test_the_golden_run(make, says, task, context) -> None:
    """Majority of four: (votes + likelihood) / 5, the whole result written by hand."""
    model = make(
        says(0, "41", logprob=-0.1), says(1, "is 42", logprob=-1.0), says(2, "42", logprob=-0.5), says(3, "hm", logprob=0.0)
    )
    result = await BestOfN(BestOfNParams(n=4), context)(task(num_choices=2), model, ignore_events)
    scores = [(1 + math.exp(-0.1)) / 5, (2 + math.exp(-1.0)) / 5, (2 + math.exp(-0.5)) / 5, 1 / 5]
    scored = tuple(
        ScoredCandidate(c, a, pytest.approx(s))
        for c, a, s in zip(model.candidates, ["41", "42", "42", None], scores, strict=True)
    )
    assert result == Result((scored[2], scored[0]), scored, StopReason.COMPLETED)


async def test_likelihood_is_the_mean_probability_per_token(says, make, task, context) -> None:
    """Exp of the mean, so that length alone neither helps nor hurts."""
    scores = await Likelihood().score(
        task(), [says(0, "a", logprob=-1.0), says(1, "a b c d", logprob=-1.0), says(2, "b", logprob=-2.0)], make()
    )
    assert scores == pytest.approx([math.exp(-1), math.exp(-1), math.exp(-2)])


async def test_self_certainty_is_the_distance_from_uniform(says, make, task, context) -> None:
    """Zero for a flat prediction, more for a peaked one; the flat tail worked out by hand for V = 1000."""
    flat = [("x", math.log(1 / 1000))] * 20
    peaked = [("x", math.log(0.5)), *[("y", math.log(0.01))] * 19]

    def one(index: int, top: list[tuple[str, float]]):
        entry = TokenLogprob("x", 0, top[0][1], tuple(top))
        return says(index, "x").__class__(index, "x", (0,), "stop", logprobs=(entry,))

    scores = await SelfCertainty(Params(), context).score(task(), [one(0, flat), one(1, peaked)], make())
    left = 1 - 0.5 - 0.19
    by_hand = -(math.log(500) + 19 * math.log(10) + 980 * math.log(1000 * left / 980)) / 1000
    assert scores[0] == pytest.approx(0, abs=1e-9)
    assert scores[1] == pytest.approx(1 - math.exp(-by_hand))


async def test_a_truncated_candidate_is_chosen_last(make, says, task, context) -> None:
    """However likely it is."""
    model = make(says(0, "cut sho", logprob=-0.01, finish="length"), says(1, "whole", logprob=-3.0))
    result = await BestOfN(BestOfNParams(n=2), context)(task(AnswerKind.OPEN), model, ignore_events)
    assert result.chosen[0].candidate.text == "whole"


async def test_asks_for_the_log_probabilities_that_its_verifier_needs(make, task, context) -> None:
    """Twenty for self-certainty, the token's own for the others, more when the caller wants more."""
    model = make(*["42"] * 4)
    for verifier in ("likelihood", "self_certainty", "majority"):
        await BestOfN(BestOfNParams(n=1, verifier=verifier), context)(task(), model, ignore_events)
    assert model.asked_logprobs == [0, 20, 0]


def test_progress_shows_the_beginning_of_long_texts() -> None:
    """On one line."""
    assert opening_words("a\n b") == "a b"
    assert len(opening_words("word " * 1000)) == 60
