"""The tournament: the model chooses between finished answers, pair by pair, and every question is charged."""

import math
from typing import Any

import pytest

from strategies.best_of_n import BestOfN, BestOfNParams
from strategies.core.parameters import Params
from strategies.core.ports import ignore_events
from strategies.core.results import Result
from strategies.core.turns import AGAIN
from strategies.core.values import AnswerKind, Candidate, ScoredCandidate, StopReason
from strategies.verifiers.tournament import QUESTION, Tournament
from tests.thinkers import MARKS

pytestmark = pytest.mark.anyio

ASKED = f"\nuser: {QUESTION}\nassistant:"


def shown(first: str, second: str) -> str:
    return f"Q|{first}\nuser: {AGAIN}\nassistant:{second}{ASKED}"


def said(words, *texts: str, **fields: object) -> list[Candidate]:
    return [Candidate(i, text, words.encode(text), "stop", **fields) for i, text in enumerate(texts)]


def prefers(*texts: str, sure: float = 0.8, place: float = 1.0):
    """A judge that likes these texts, the first one most, and finds the first place of two `place` times as likely."""

    def weigh(asked: str, word: str) -> float:
        first, second = asked.removeprefix("Q|").removesuffix(ASKED).split(f"\nuser: {AGAIN}\nassistant:")
        is_first_better = texts.index(first) < texts.index(second)
        chance = sure if is_first_better == (word == "A") else 1 - sure
        return math.log(chance * (place if word == "A" else 1))

    return weigh


async def test_the_golden_run(grow, question, context) -> None:
    """Best of four: 42 has two votes and is seeded first, 7 is preferred to all and wins; the whole result written by hand."""
    model = grow(lambda _said, i: [" 41", " 42", " 42", " 7"][i], weigh=prefers(" 7", " 42", " 41"))
    strategy = BestOfN(BestOfNParams.model_validate({"n": 4, "verifier": "tournament"}), context)
    result = await strategy(question(num_choices=3), model, ignore_events)
    candidates = [one.candidate for one in result.candidates]
    # of three answers the middle seed passes: 7 is likelier than 41, so 42 plays 41, then 7
    scores = [(0 + 0.2) / 2, (1 + 0.2) / 2, (1 + 0.2) / 2, 1.0]
    scored = tuple(
        ScoredCandidate(c, a, pytest.approx(s)) for c, a, s in zip(candidates, ["41", "42", "42", "7"], scores, strict=True)
    )
    assert result == Result((scored[3], scored[1], scored[0]), scored, StopReason.COMPLETED)
    assert model.asked == [shown(" 42", " 41"), shown(" 41", " 42"), shown(" 42", " 7"), shown(" 7", " 42")]


@pytest.mark.parametrize("place", [0.01, 1.0, 100.0])
async def test_liking_for_a_place_cancels_out(place: float, words, grow, question, context) -> None:
    """Each pair is asked in both orders, and the mean of the two decides."""
    model = grow({}, weigh=prefers(" b", " a", place=place))
    scores = await Tournament(Params(), context).score(question(AnswerKind.OPEN), said(words, " a", " b"), model)
    assert scores[1] == 1.0 > scores[0]
    assert model.asked == [shown(" a", " b"), shown(" b", " a")]


@pytest.mark.parametrize("num", [1, 2, 3, 4, 5, 7, 8, 9, 16])
async def test_every_answer_but_the_winner_loses_one_match(num: int, words, grow, question, context) -> None:
    """Whatever their number; the preferred one wins, and whoever comes further has the higher score."""
    texts = [f" {chr(97 + i)}" for i in range(num)]
    model = grow({}, weigh=prefers(*reversed(texts)))
    scores = await Tournament(Params(), context).score(question(AnswerKind.OPEN), said(words, *texts), model)
    assert scores[-1] == 1.0
    assert all(0 <= score < 1 for score in scores[:-1])
    assert len(model.asked) == Tournament.num_calls(num) == 2 * (num - 1)


async def test_equal_answers_play_once(words, grow, question, context) -> None:
    """As one answer, whose candidates all score the same, so that nobody pays for a match of 42 against 42."""
    model = grow({}, weigh=lambda _text, word: math.log({"A": 0.5, "B": 0.5}[word]))
    scores = await Tournament(Params(), context).score(question(), said(words, " 41", " 42", " is 42", " 42.0", " hm"), model)
    assert scores == [0.5, 1.0, 1.0, 1.0, 0.0]
    assert model.asked == [shown(" 42", " 41"), shown(" 41", " 42")]


async def test_a_level_match_goes_to_the_better_seed(words, grow, question, context) -> None:
    """So where the budget has no room for questions, what is left is a vote, ties by likelihood."""
    verifier = Tournament(Params(), context)
    answers = said(words, " 1", " 2", " 2", " 3")
    assert (await verifier.score(question(), answers, grow({})))[1:3] == [1.0, 1.0]


async def test_only_finished_answers_play(says, make, task, context) -> None:
    """One that was cut scores 0."""
    candidates = [says(0, "a", logprob=-1.0), says(1, "b", finish="length", logprob=-0.1), says(2, "c", logprob=-2.0)]
    scores = await Tournament(Params(), context).score(task(AnswerKind.OPEN), candidates, make())
    assert scores == [1.0, 0.0, 0.5]
    assert await Tournament(Params(), context).score(task(AnswerKind.OPEN), candidates[1:2], make()) == [0.0]
    assert await Tournament(Params(), context).score(task(AnswerKind.OPEN), [], make()) == []


async def ask(served, **ponder: Any) -> dict[str, Any]:
    ponder = {"strategy": "best_of_n", "verifier": "tournament", **({} if "strategy" in ponder else {"n": 4}), **ponder}
    reply = await served.chat(ponder=ponder, seed=0)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_every_question_is_charged(serve) -> None:
    """As tokens and FLOPs of verifiers; a dry run predicts them."""
    async with serve(lambda _prompt, number: f" It is {number}.") as served:
        predicted = (await ask(served, dry_run=True))["ponder"]["predicted"]
        plain = (await ask(served, verifier="likelihood"))["ponder"]
        told = (await ask(served))["ponder"]
        questions = [branch for branch in served.engine.branches if branch.options]
    assert len(questions) == 6
    assert predicted["branches"] == 4
    assert told["tokens"]["decoded"] == plain["tokens"]["decoded"] + 6
    assert told["tokens"]["verified"] > plain["tokens"]["verified"] == 0
    assert told["flops"]["verify"] > plain["flops"]["verify"] == 0


async def test_a_budget_without_room_for_questions_leaves_a_vote(serve) -> None:
    """And is kept to the token."""
    async with serve(lambda _prompt, number: f" It is {[41, 42, 42, 43][number % 4]}.") as served:
        body = await ask(served, budget={"tokens": 13})
    assert body["ponder"]["tokens"]["decoded"] <= 13
    assert body["ponder"]["stop_reason"] == "budget_tokens"
    assert body["choices"][0]["message"]["content"] == " It is 42."


@pytest.mark.parametrize(
    "strategy", [{"strategy": "sequential_revision", "chains": 4, "attempts": 1}, {"strategy": "self_aggregation", "rounds": 1}]
)
async def test_a_budget_that_ends_while_answers_are_compared_is_told(serve, strategy: dict[str, Any]) -> None:
    """Four answers of three tokens leave one token for questions."""
    async with serve(lambda _prompt, number: f" It is {number}.") as served:
        body = await ask(served, **strategy, answer="math", budget={"tokens": 13})
    assert len(body["ponder"]["candidates"]) == 4
    assert body["ponder"]["stop_reason"] == "budget_tokens"


async def test_answers_are_shown_without_their_thinking(serve) -> None:
    """And the judge does not think either."""
    start, end = MARKS
    async with serve(lambda _prompt, number: f" Perhaps {number}. {end} It is {number}.", thinking=MARKS) as served:
        await ask(served, n=2)
        questions = [served.engine.decode(branch.prefix) for branch in served.engine.branches if branch.options]
    head = f"user: What is 17 + 25?\nassistant: {start}{end}"
    assert questions == [
        f"{head} It is {first}.\nuser: {AGAIN}\nassistant: It is {second}.{ASKED}" for first, second in ((0, 1), (1, 0))
    ]


@pytest.mark.parametrize("strategy", ["beam_search", "mcts", "particle_filtering", "tree_of_thoughts"])
async def test_it_cannot_compare_steps(serve, strategy: str) -> None:
    """A search that scores unfinished answers refuses it."""
    async with serve() as served:
        reply = await served.chat(ponder={"strategy": strategy, "verifier": "tournament"})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "ponder.verifier")


@pytest.mark.parametrize("strategy", ["sequential_revision", "self_aggregation"])
async def test_it_chooses_wherever_whole_answers_are_chosen(serve, strategy: str) -> None:
    """Also of open questions."""
    async with serve(lambda prompt, number: f" answer {len(prompt)} {number}") as served:
        body = await ask(
            served, strategy=strategy, answer="open", **({"chains": 2} if strategy == "sequential_revision" else {})
        )
    assert body["ponder"]["tokens"]["verified"] > 0
