"""The agreement model learns how far agreement can be trusted, from questions with known answers."""

import random
from functools import cache

import pytest

from app.lab.calibration.agreement_fitting import GradedBallots, fit_agreement, graded
from app.routing.agreement import AGREEMENT_FEATURES, FALLING, RISING, AgreementModel, Ballot
from app.routing.ballots import ballots_of, labels_of
from app.routing.pool_file import Continuation
from strategies.answers.equivalence import Equivalence
from tests.lab.calibration.test_pool import entry, sample


@pytest.fixture
def equivalence():
    found = Equivalence()
    yield found
    found.close()


def question(chance: float, mistake: float, generator: random.Random) -> GradedBallots:
    """Eight answers: right with probability `chance`, else the same mistake with probability `mistake`, else one of many others."""
    ballots = []
    for number in range(8):
        is_right = generator.random() < chance
        wrong = "13" if generator.random() < mistake else str(generator.randrange(100, 999))
        answer = "42" if is_right else wrong
        ballots.append(
            Ballot(answer, is_sound=True, is_first=number == 0, logprob=-0.2 if is_right else -0.5, lowest=-1, length=30)
        )
    return GradedBallots(ballots, frozenset({"42"}))


@cache
def questions() -> tuple[GradedBallots, ...]:
    generator = random.Random(1)
    return tuple(question(generator.choice((0.9, 0.4, 0.02)), 0.4, generator) for _ in range(300))


@cache
def fitted() -> AgreementModel:
    return fit_agreement(questions(), {"models": ["invented"]})


def test_its_probabilities_are_those_of_the_outcomes() -> None:
    chosen = [
        (max(found.values()), max(found, key=found.__getitem__) in one.right)
        for one in questions()
        if (found := fitted().probabilities(one.ballots))
    ]
    for low, high in ((0, 0.5), (0.5, 1)):
        some = [(probability, is_right) for probability, is_right in chosen if low <= probability < high]
        mean, share = (sum(one[place] for one in some) / len(some) for place in (0, 1))
        assert mean == pytest.approx(share, abs=0.08)


def test_a_systematic_mistake_is_not_taken_for_the_truth() -> None:
    """Where a model agrees with itself on mistakes, agreement is worth less."""
    generator = random.Random(2)
    stubborn = fit_agreement([question(generator.choice((0.6, 0.0)), 0.9, generator) for _ in range(300)])
    agreed = question(1.0, 0.0, generator).ballots
    assert stubborn.probabilities(agreed)["42"] < fitted().probabilities(agreed)["42"]


def test_more_votes_never_have_the_wrong_sign() -> None:
    assert all(fitted().weights.get(name, 0) >= 0 for name in RISING)
    assert all(fitted().weights.get(name, 0) <= 0 for name in FALLING)
    assert fitted().weights.keys() <= set(AGREEMENT_FEATURES)
    assert fitted().provenance == {"models": ["invented"]}


def test_questions_without_any_answer_cannot_be_fitted_to() -> None:
    with pytest.raises(ValueError, match="can be read"):
        fit_agreement([GradedBallots([], frozenset())])


@pytest.mark.anyio
async def test_each_generation_of_a_pool_has_the_probability_of_its_answer(equivalence: Equivalence) -> None:
    texts = ["It is 42.", "42.0", "It is 41.", "I do not know."]
    pool = entry(texts=texts)
    cut = pool.samples[0].model_copy(update={"finish_reason": "length"})
    pool = pool.model_copy(update={"greedy": cut})
    ballots = await ballots_of(pool, equivalence)
    assert [one.ballot.answer for one in ballots] == [None, "42", "42", "41", None]
    assert [one.ballot.is_sound for one in ballots] == [False, True, True, True, True]
    assert [one.ballot.is_first for one in ballots] == [True, False, False, False, False]
    assert graded(ballots).right == {"42"}
    none, first, second, other, unread = labels_of(ballots, fitted())
    assert (none, unread) == (0, 0)
    assert first == second > other > 0


@pytest.mark.anyio
async def test_an_answer_that_backtracks_has_a_ballot_for_each_attempt(equivalence: Equivalence) -> None:
    """The line with 17 + 25 = 41 is false; the calculator writes 42 behind what was kept of it."""
    first = sample("17 + 25 = 41\n#### 41")
    kept = 4  # up to the sign of equality
    fields = sample("\n#### 42").model_dump(exclude={"score", "continuations", "margins", "entropies"})
    continuation = Continuation(**fields, kept_tokens=kept + 1, inserted="42", inserted_ids=(9,))
    pool = entry(texts=["#### 42"]).model_copy(update={"greedy": first.model_copy(update={"continuations": (continuation,)})})
    ballots = [one.ballot for one in await ballots_of(pool, equivalence)]
    assert [one.answer for one in ballots] == ["41", "42", "42"]
    assert [one.is_sound for one in ballots] == [False, True, True]
    assert ballots[1].length == kept + 1 + len(fields["token_ids"])
