"""Particle filtering and sequential revision."""

import collections
import math
import random

import pytest

from strategies.core.ports import ignore_events
from strategies.core.results import Progress
from strategies.core.values import AnswerKind, StopReason
from strategies.particle_filtering import ParticleFiltering, ParticleFilteringParams
from strategies.sequential_revision import SequentialRevision, SequentialRevisionParams

pytestmark = pytest.mark.anyio


async def test_particles_are_resampled_by_the_odds_of_their_scores(grow, question, context) -> None:
    """A score of 0.9 weighs 9, one of 0.5 weighs 1, so nine in ten of many particles continue the better step."""
    chances = {"good": math.log(0.9), "bad": math.log(0.5), "end": 0.0}
    model = grow(
        lambda said, i: ["good;", "bad;"][i % 2] if not said else "end",
        logprob=lambda word: chances[word.strip().removesuffix(";")],
    )
    strategy = ParticleFiltering(ParticleFilteringParams(n=200, separator=";"), context)
    result = await strategy(question(AnswerKind.OPEN, seed=3), model, ignore_events)
    ends = collections.Counter(node.parent % 2 for node in result.nodes if node.text == "end")
    assert ends[0] == pytest.approx(180, abs=12)


async def test_particles_at_their_end_take_part_with_their_last_weight(grow, question, context) -> None:
    """A whole answer is drawn again and again while others still grow; it is not grown any further."""
    table = {"": ["a 1", "b;"], "b;": ["c;"], "b;c;": ["d 2"]}
    strategy = ParticleFiltering(ParticleFilteringParams(n=2, separator=";"), context)
    result = await strategy(question(seed=1), grow(table), ignore_events)
    assert all(node.parent != 0 for node in result.nodes)
    assert result.stop_reason is StopReason.COMPLETED


async def test_the_same_seed_resamples_the_same(grow, question, context) -> None:
    """The caller's seed is the only chance in it."""
    strategy = ParticleFiltering(ParticleFilteringParams(n=4, separator=";"), context)

    def script(said: str, position: int) -> str:
        return f"{random.Random(said + str(position)).choice('abc')};" if said.count(";") < 3 else "x 1"

    first, second, other = [await strategy(question(seed=seed), grow(script), ignore_events) for seed in (5, 5, 6)]
    assert first == second
    assert first.nodes != other.nodes


def revision(context, **params: object) -> SequentialRevision:
    return SequentialRevision(SequentialRevisionParams.model_validate(params), context)


async def test_progress_has_the_newest_attempt(grow, question, context) -> None:
    """Which would be returned where an exact verifier has not scored another one higher."""
    told: list[Progress] = []
    model = grow(lambda said, _position: f" try {said.count('again') + 1}")
    await revision(context, chains=1, attempts=3, prompt="again")(question(), model, told.append)
    assert [one.best.text for one in told if one.best] == [" try 1", " try 2", " try 3"]


async def test_a_revision_sees_the_attempts_before_it(grow, question, context) -> None:
    """As turns of one conversation, the latest `in_view` of them; chains see only their own."""
    seen: list[str] = []

    def script(said: str, position: int) -> str:
        seen.append(said)
        return f" try {said.count('again') + 1}.{position}"

    result = await revision(context, chains=2, attempts=4, in_view=2, prompt="again")(question(), grow(script), ignore_events)
    turn = "\nuser: again\nassistant:"
    assert sorted(seen) == sorted(
        [
            "", "",
            f" try 1.0{turn}", f" try 1.1{turn}",
            f" try 1.0{turn} try 2.0{turn}", f" try 1.1{turn} try 2.0{turn}",
            f" try 2.0{turn} try 3.0{turn}", f" try 2.0{turn} try 3.0{turn}",
        ]
    )  # fmt: skip
    assert [node.parent for node in result.nodes] == [None, None, 0, 1, 2, 3, 4, 5]


async def test_a_revision_sees_fewer_attempts_where_the_context_has_little_room(grow, question, context) -> None:
    """The latest ones, and always the one that it revises: a context without any room ends the chain."""
    model = grow(lambda said, _position: f" try {said.count('again') + 1}")
    task = question(context_tokens=15)  # one for the prompt, two for each attempt, three for each request
    result = await revision(context, chains=1, attempts=4, prompt="again")(task, model, ignore_events)
    assert [node.in_view for node in result.nodes] == [(), (0,), (0, 1), (1, 2)]
    assert [node.parent for node in result.nodes] == [None, 0, 1, 2]


async def test_all_attempts_are_candidates(grow, question, context) -> None:
    """A revision may spoil a right answer: the vote is among all of them."""
    answers = {"": " 42", "1": " 41", "2": " 42"}
    model = grow(lambda said, _i: answers[str(said.count("again") or "")])
    result = await revision(context, chains=1, attempts=3, prompt="again")(question(), model, ignore_events)
    assert result.chosen[0].answer == "42"
    assert len(result.candidates) == 3


async def test_a_rule_ends_it_at_the_first_right_attempt(grow, question, context) -> None:
    """Nothing is left to revise."""
    model = grow(lambda said, _i: [" 41", " 42", " 43"][said.count("again")])
    result = await revision(context, chains=2, attempts=3, prompt="again", verifier={"number": 42})(
        question(), model, ignore_events
    )
    assert result.stop_reason is StopReason.VERIFIED
    assert len(result.candidates) == 4
    assert result.chosen[0].answer == "42"
