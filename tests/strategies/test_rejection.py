"""Speculative rejection in best-of-n, against trees that can be followed by eye."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.best_of_n import BestOfN, BestOfNParams
from strategies.core.errors import UnsupportedTask, VerifierFailed
from strategies.core.ports import ignore_events
from strategies.core.values import AnswerKind, StopReason
from strategies.search.rejection import Rejection
from strategies.verifiers import VERIFIERS
from strategies.verifiers.likelihood import Likelihood

pytestmark = pytest.mark.anyio

# What was said -> what comes next, by the position among those drawn together. A wave ends with a semicolon.
# A word's log-probability is -0.1 for each letter: likelihood prefers answers of short words.
TREE = {
    "": ["aaaa;", "b;", "ccc 777", "dd;", "eee 42", "ffff;", "gg;", "hhh;"],
    "b;": ["iiiii;"],
    "dd;": ["j;"],
    "dd;j;": ["l 41"],
}


def told(result) -> list[tuple]:
    """The tree, a line for each node: id, parent, text, state, score in percent."""
    return [(one.id, one.parent, one.text, one.state.value, round(100 * one.score)) for one in result.nodes]


def best_of(context, **params: object) -> BestOfN:
    return BestOfN(BestOfNParams.model_validate({"reject": 0.5, "separator": ";", **params}), context)


def mean(*letters: int) -> int:
    """The likelihood of words with so many letters, in percent."""
    return round(100 * math.exp(-0.1 * sum(letters) / len(letters)))


async def test_the_golden_run(grow, question, context) -> None:
    """Of eight answers four go on, of these two, and the last wave is judged with what has ended: the tree written by hand."""
    result = await best_of(context, n=8)(question(), grow(TREE), ignore_events)
    assert told(result) == [
        (0, None, "aaaa;", "pruned", mean(5)),
        (1, None, "b;", "open", mean(2)),
        (2, None, "ccc 777", "final", mean(3, 3)),  # ended, and one of the best four: it competes in the second wave
        (3, None, "dd;", "open", mean(3)),
        (4, None, "eee 42", "final", mean(3, 2)),
        (5, None, "ffff;", "pruned", mean(5)),
        (6, None, "gg;", "pruned", mean(3)),  # as good as dd;, which was asked for first
        (7, None, "hhh;", "pruned", mean(4)),
        (8, 1, "iiiii;", "pruned", mean(2, 6)),  # scored with all that is before it
        (9, 3, "j;", "open", mean(3, 2)),
        (10, 9, "l 41", "chosen", mean(3, 2, 1, 2)),
    ]
    assert [one.candidate.text for one in result.candidates] == ["ccc 777", "eee 42", "dd;j;l 41"]
    assert result.stop_reason is StopReason.COMPLETED


async def test_an_answer_that_has_ended_makes_others_end(grow, question, context) -> None:
    """The best two are whole after the first wave, so no partial answer goes on."""
    model = grow({"": ["a 1", "bbb;", "c 2", "ddd;"]})
    result = await best_of(context, n=4)(question(), model, ignore_events)
    assert [state for *_, state, _ in told(result)] == ["chosen", "pruned", "final", "pruned"]
    assert model.num_drawn == 4


async def test_an_answer_that_has_ended_is_kept_when_it_is_rejected(grow, question, context) -> None:
    """It is paid for, so it is chosen where what went on turns out worse."""
    tree = {"": ["b;", "cccc 7", "dddd;", "e;"], "b;": ["ffffffff;"], "e;": ["gggggggg;"], "b;ffffffff;": ["hhhhhhhh 9"]}
    result = await best_of(context, n=4)(question(), grow(tree), ignore_events)
    assert result.chosen[0].answer == "7"
    assert [one.answer for one in result.candidates] == ["7", "9"]


async def test_votes_are_those_of_the_answers_that_have_ended(grow, question, context) -> None:
    """Weighted by their scores, as without rejection."""
    tree = {"": ["cc 42", "b;", "cc 42", "dddd;"], "b;": ["e 7"]}
    by_score, by_vote = [
        await best_of(context, n=4, select=select)(question(), grow(tree), ignore_events) for select in ("score", "vote")
    ]
    assert (by_score.chosen[0].answer, by_vote.chosen[0].answer) == ("7", "42")


async def test_as_many_go_on_as_the_caller_wants_answers(grow, question, context) -> None:
    """Three of four, however large the share."""
    tree = {"": ["a;", "b;", "c;", "dd;"], "a;": ["1"], "b;": ["2"], "c;": ["3"]}
    result = await best_of(context, n=4, reject=0.9)(question(num_choices=3), grow(tree), ignore_events)
    assert [one.answer for one in result.chosen] == ["1", "2", "3"]


@pytest.mark.parametrize("params", [{"n": 1}, {"n": 4, "reject": 0.2}])
async def test_where_none_can_be_rejected_answers_are_written_whole(params: dict, grow, question, context) -> None:
    """A single one needs no waves, and neither does a share that is less than one answer."""
    model = grow(lambda _said, position: f"a; b; c; {position}")
    result = await best_of(context, **params)(question(), model, ignore_events)
    assert model.num_drawn == params["n"]
    assert result.nodes == ()


async def test_the_last_one_runs_to_its_end(grow, question, context) -> None:
    """In one call: there is nothing left to compare it with before it has ended."""
    model = grow(lambda said, _position: "a; b; c; 1"[len(said) :])
    result = await best_of(context, n=2)(question(), model, ignore_events)
    assert [one.text for one in result.nodes] == ["a;", "a;", " b; c; 1"]


async def test_a_wave_ends_after_so_many_tokens(grow, question, context) -> None:
    """All answers are compared at the same length, whatever lines they write."""
    words = "one two three four five six seven eight 42"
    model = grow(lambda said, _position: words[len(said) :])
    result = await best_of(context, n=4, wave_tokens=3, separator=None)(question(), model, ignore_events)
    assert [(one.parent, one.text) for one in result.nodes if one.state.value != "pruned"] == [
        (None, "one two three"), (None, "one two three"), (0, " four five six"), (4, " seven eight 42")
    ]  # fmt: skip


async def test_a_proven_answer_ends_it_and_a_refuted_one_does_not_go_on(grow, question, context) -> None:
    """An exact verifier that reads steps: nobody may write 3 + 5 here, and 4 * 6 = 24 is proven while others are not whole."""
    tree = {
        "": ["2 + 2 = 4;", "3 + 5 = 8;", "2 + 6 = 8;", "2 * 2 = 4;"],
        "2 + 2 = 4;": [" 4 * 6 = 24"],
        "2 * 2 = 4;": [" 6 - 4 = 2;"],
        "2 + 6 = 8;": [" 8 + 2 = 10;"],
    }
    rule = {"arithmetic": {"numbers": [2, 2, 6], "target": 24}}
    result = await best_of(context, n=4, reject=0.25, verifier=rule)(question(), grow(tree), ignore_events)
    assert result.stop_reason is StopReason.VERIFIED
    assert result.chosen[0].candidate.text == "2 + 2 = 4; 4 * 6 = 24"
    assert told(result)[1][3:] == ("pruned", 0)


async def test_where_its_verifier_fails_likelihood_scores_all_again(grow, question, context) -> None:
    """A reward model that has praised the whole answers, and cannot be reached in the second wave."""

    class Moody(Likelihood):
        num_calls_left = 1

        async def score(self, task, candidates, model):
            if not self.num_calls_left:
                raise VerifierFailed("the reward model m did not answer")
            self.num_calls_left -= 1
            return [0.9 if candidate.is_complete else 0.8 for candidate in candidates]

    tree = {"": ["b;", "ccccc 7", "dddd;", "eeee;"], "b;": ["f 42"]}
    strategy = best_of(replace(context, reward_models={"m": Moody()}), n=4, verifier={"reward_model": "m"})
    result = await strategy(question(), grow(tree), ignore_events)
    assert result.chosen[0].answer == "42"
    assert [round(100 * one.score) for one in result.candidates] == [mean(5, 1), mean(2, 1, 2)]
    assert len(result.notes) == 1


@pytest.mark.parametrize("tokens", [1, 5, 8, 9, 10, 11, 12])
async def test_a_spent_budget_returns_what_was_not_rejected(tokens: int, grow, question, context) -> None:
    """The partial answers that were ended first may have better scores, but nobody went on with them."""
    tree = {"": ["b;", "c;", "ddd;", "eee;"], "b;": ["ffffffff " * 4 + "g;"], "c;": ["hhhhhhhh " * 4 + "i;"]}
    result = await best_of(context, n=4)(question(), grow(tree, tokens=tokens), ignore_events)
    assert result.stop_reason is StopReason.TOKENS
    [chosen] = result.chosen
    assert chosen.candidate.text.startswith(("b;f", "c;h") if tokens > 4 else "b;")


@pytest.mark.parametrize("verifier", ["majority", {"number": 42}, {"regex": "42"}, {"json_schema": {}}])
def test_verifiers_that_cannot_rank_partial_answers_are_refused(verifier: object, question, context) -> None:
    """With the reason; without rejection they are taken."""
    with pytest.raises(UnsupportedTask, match="tells no partial answer from another") as refusal:
        best_of(context, verifier=verifier).check(question())
    assert refusal.value.parameter == "verifier"
    best_of(context, verifier=verifier, reject=None).check(question())


@pytest.mark.parametrize("verifier", [None, "likelihood", "self_certainty", "p_true", "equations", {"adapter": "judge"}])
def test_all_others_reject(verifier: object, question, context) -> None:
    """By default likelihood, also where answers can be compared."""
    for kind in AnswerKind:
        best_of(context, verifier=verifier).check(question(kind))
    assert {one.name for one in VERIFIERS if not one.ranks_steps} == {"number", "regex", "json_schema"}


@pytest.mark.parametrize("field", [{"is_constrained": True}, {"is_continuable": False}])
def test_answers_that_cannot_be_continued_are_refused(field: dict[str, bool], question, context) -> None:
    """A grammar, a penalty or a stop string would begin anew in each wave."""
    with pytest.raises(UnsupportedTask, match="from their middle") as refusal:
        best_of(context).check(question(**field))
    assert refusal.value.parameter == "reject"


def test_best_of_64_costs_as_much_as_best_of_16(question, context) -> None:
    """64 + 32 + ... + 2 answers of 32 tokens, and one that goes on to the end of its 256."""
    forecast = best_of(context, n=64, verifier="p_true").forecast(question(), 256)
    assert forecast.tokens == 32 * (64 + 32 + 16 + 8 + 4 + 2) + 64 == 16 * 256
    assert (forecast.branches, forecast.rounds, forecast.verifier_calls) == (127, 7, 127)
    assert best_of(context, n=64, reject=None).forecast(question(), 256).tokens == 64 * 256
    assert best_of(context, n=64).forecast(question(), 20).tokens == 64 * 20  # it ends within the first wave


async def test_the_forecast_is_what_is_drawn(grow, question, context) -> None:
    """For answers that are all as long."""
    text = " ".join(["one"] * 20)
    model = grow(lambda said, _position: text[len(said) :])
    strategy = best_of(context, n=8, wave_tokens=4, separator=None)
    result = await strategy(question(AnswerKind.OPEN), model, ignore_events)
    forecast = strategy.forecast(question(AnswerKind.OPEN), 20)
    assert (forecast.branches, forecast.tokens) == (model.num_drawn, sum(one.tokens for one in result.nodes))


@given(n=st.integers(1, 256), share=st.floats(0.01, 0.99), least=st.integers(1, 8))
def test_fewer_go_on_after_each_wave_but_the_last(n: int, share: float, least: int) -> None:
    """As many as the caller wants are always left, and the waves are one answer long."""
    waves = Rejection(share, least).waves(n, 1, 1000)
    sizes = [num for num, _ in waves]
    assert sizes == sorted(set(sizes), reverse=True)
    assert sum(size for _, size in waves) == 1000
    assert min(sizes) >= min(n, least)


async def test_an_answer_that_loops_does_not_go_on(grow, question, context) -> None:
    """A loop is likely, so likelihood would keep it. In each wave there are 20 tokens of it, which are none yet for an engine."""
    story = "".join(f" word{number}" for number in range(160)) + " so 42"

    def script(said: str, position: int) -> str:
        loops = said.startswith(" a") or (not said and position == 0)
        return " a" * (400 - said.count("a")) if loops else story[len(said) :]

    strategy = best_of(context, n=16, reject=0.1, wave_tokens=20, separator=None)
    result = await strategy(question(), grow(script), ignore_events)
    looped = [node for node in result.nodes if node.text.startswith(" a")]
    assert [one.finish_reason for one in looped] == ["step", "step", "step", "repetition"]
    assert result.chosen[0].answer == "42"
    allowed = await strategy(question(AnswerKind.OPEN), grow(script), ignore_events)
    assert allowed.chosen[0].candidate.text == " a" * 400
