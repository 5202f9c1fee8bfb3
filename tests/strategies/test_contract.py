"""The contract of every strategy and verifier. A new strategy needs one entry in `SIZED`, if it has a number of candidates."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strategies.core.errors import UnsupportedTask
from strategies.core.parameters import Params
from strategies.core.ports import ignore_events
from strategies.core.results import Progress, Result
from strategies.core.values import AnswerKind, StopReason
from strategies.core.verifier import is_chosen_by_name
from strategies.registry import STRATEGIES
from strategies.verifiers import VERIFIERS

pytestmark = pytest.mark.anyio

TEXTS = ["42", "so 41", "it is 42", "42 is it", "7", "is 42", "41", "no idea", "42.0", "forty"]
ALL = pytest.mark.parametrize("name", STRATEGIES.names())


SIZED = {
    "best_of_n": lambda n: {"n": n},
    "self_consistency": lambda n: {"n": n},
    "adaptive": lambda n: {"n": n},
    "backtracking": lambda n: {"n": n, "attempts": 1, "first": "sample"},
    "beam_search": lambda n: {"n": n, "expand": n},
    "tree_of_thoughts": lambda n: {"samples": n, "breadth": n, "evaluate": "verifier"},
    "mcts": lambda n: {"iterations": 1, "expand": n, "workers": 1},
    "particle_filtering": lambda n: {"n": n},
    "sequential_revision": lambda n: {"chains": n, "attempts": 1},
    "self_aggregation": lambda n: {"n": n, "rounds": 1},
    "early_exit": lambda n: {"n": n},
}
"""Parameters with which a strategy draws n candidates of an answer that is one step."""


def build(name: str, context, n: int = 4):
    """A strategy with n candidates."""
    cls = STRATEGIES[name]
    return cls(cls.Params.model_validate(SIZED[name](n) if name in SIZED else {}), context)


async def run(name: str, task, model, context, emit=ignore_events, n: int = 4) -> Result:
    return await build(name, context, n)(task, model, emit)


@ALL
async def test_returns_one_answer_by_default(name: str, make, task, context) -> None:
    """Whatever was drawn, the caller gets one answer, which is among the candidates."""
    result = await run(name, task(), make(*TEXTS), context)
    assert len(result.chosen) == 1
    assert result.chosen[0] in result.candidates


@ALL
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(order=st.permutations(range(8)))
async def test_the_order_of_completion_changes_nothing(name: str, order: list[int], make, task, context) -> None:
    """The whole result is the same, candidates and all."""
    usual = await run(name, task(), make(*TEXTS), context, n=8)
    other = await run(name, task(), make(*TEXTS, order=order), context, n=8)
    assert other == usual


@ALL
async def test_one_candidate_is_what_direct_answers(name: str, make, task, context) -> None:
    """With n = 1 there is nothing to choose from."""
    result = await run(name, task(), make(*TEXTS), context, n=1)
    direct = await run("direct", task(), make(*TEXTS), context)
    one, other = result.chosen[0].candidate, direct.chosen[0].candidate
    assert (one.index, one.text, one.token_ids, one.finish_reason) == (
        other.index,
        other.text,
        other.token_ids,
        other.finish_reason,
    )


@ALL
async def test_never_draws_more_than_asked_and_ends_what_it_started(name: str, make, task, context) -> None:
    """No context stays open, no more candidates than n, and no more of them at once than the width."""
    model = make(*TEXTS)
    strategy = build(name, context)
    await strategy(task(), model, ignore_events)
    assert model.num_open == 0
    assert model.num_drawn <= 4
    assert model.most_at_once <= strategy.width(1)


@ALL
async def test_cancelled_from_outside_it_ends_its_branches(name: str, make, task, context) -> None:
    """A disconnect in the middle leaves nothing behind."""
    model = make(*TEXTS, hang=True)
    running = asyncio.create_task(run(name, task(), model, context))
    await asyncio.sleep(0.01)
    assert model.num_open == 1
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert model.num_open == 0


@ALL
@pytest.mark.parametrize("reason", [StopReason.TOKENS, StopReason.FLOPS, StopReason.SECONDS])
@pytest.mark.parametrize("cut_after", [0, 1, 2])
async def test_a_spent_budget_returns_the_best_so_far_and_says_so(
    name: str, cut_after: int, reason: StopReason, make, task, context
) -> None:
    """At any moment there is an answer once there is a candidate."""
    num = 1 if name == "direct" else 4
    model = make("41", "42", "42", "42", cut_after=cut_after, reason=reason)
    result = await run(name, task(num_choices=1), model, context)
    assert len(result.chosen) == min(cut_after, 1)
    assert len(result.candidates) == min(cut_after, num)
    if cut_after < num:
        assert result.stop_reason is reason


@ALL
@pytest.mark.parametrize("finish", ["stop", "length", "abort"])
async def test_empty_and_truncated_candidates_are_survived(name: str, finish: str, make, says, task, context) -> None:
    """An answer is returned even if all candidates are empty, or none is whole."""
    result = await run(name, task(), make(*(says(i, "", finish=finish) for i in range(4))), context)
    assert result.chosen[0].candidate.text == ""


@ALL
async def test_a_tie_goes_to_the_first_where_nothing_tells_them_apart(name: str, make, task, context) -> None:
    """Deterministic, even when all score the same."""
    result = await run(name, task(), make("1", "2", "3", "4"), context)
    assert result.chosen[0].candidate.text == "1"


@ALL
async def test_reports_while_it_works(name: str, make, task, context) -> None:
    """Deltas, or progress with each candidate as a node."""
    seen: list[object] = []
    result = await run(name, task(), make(*TEXTS), context, emit=seen.append)
    if name == "direct":
        assert len(seen) == len(result.candidates)
    else:
        assert all(isinstance(event, Progress) for event in seen)
        assert {node.id for event in seen for node in event.nodes} == {one.candidate.index for one in result.candidates}


@pytest.mark.parametrize("name", [name for name in STRATEGIES.names() if name != "direct"])
async def test_more_choices_than_candidates_are_refused(name: str, task, context) -> None:
    """Before anything is drawn, naming the parameter."""
    strategy = build(name, context, n=1)
    with pytest.raises(UnsupportedTask) as refusal:
        strategy.check(task(num_choices=3))
    assert refusal.value.parameter in type(strategy).Params.model_fields


@ALL
async def test_a_forecast_is_what_it_takes_when_nothing_ends_it(name: str, make, task, context) -> None:
    """For answers of one step, of the length that is expected."""
    strategy = build(name, context)
    forecast = strategy.forecast(task(), answer_tokens=10)
    model = make(*TEXTS)
    await strategy(task(), model, ignore_events)
    assert forecast.branches >= model.num_drawn
    assert forecast.tokens >= 10
    assert forecast.rounds >= 1


@ALL
async def test_several_choices_are_distinct_and_best_first(name: str, make, task, context) -> None:
    """For strategies that compare; direct gives independent samples."""
    result = await run(name, task(num_choices=2), make("42", "41", "is 42", "42"), context)
    assert len(result.chosen) == 2
    if name != "direct":
        assert [scored.answer for scored in result.chosen] == ["42", "41"]


@pytest.mark.parametrize("name", [one.name for one in VERIFIERS if is_chosen_by_name(one)])
async def test_every_verifier_scores_in_order_and_in_range(name: str, make, says, task, context) -> None:
    """One score in [0, 1] each, whatever the candidates look like."""
    candidates = [says(0, "42", logprob=-0.5), says(1, "", logprob=-1.0), says(2, "41 or so", finish="length"), says(3, "x")]
    scores = await VERIFIERS[name](Params(), context).score(task(), candidates, make())
    assert len(scores) == 4
    assert all(0 <= score <= 1 for score in scores)


@pytest.mark.parametrize("kind", list(AnswerKind))
async def test_best_of_n_serves_every_kind(kind: AnswerKind, make, task, context) -> None:
    """Where there is nothing to vote on, the likelihood decides."""
    result = await run("best_of_n", task(kind), make(*TEXTS), context)
    assert len(result.chosen) == 1


def test_registries_refuse_what_they_do_not_know() -> None:
    """The error lists the known names."""
    with pytest.raises(KeyError, match="direct, best_of_n, self_consistency"):
        STRATEGIES["wish"]
