"""The plans of the prior policy, as a table."""

from itertools import product
from typing import get_args

import pytest

from app.request import Effort, effort_of
from app.routing.policy import BUSY_LOAD, PriorPolicy, Query
from app.routing.policy_file import Bin
from strategies.core.strategy import NO_WIN
from strategies.core.values import AnswerKind
from strategies.registry import STRATEGIES

TABLE = {
    #                    low       medium                high
    AnswerKind.OPEN: ("direct", "direct", "direct"),
    AnswerKind.MATH: ("direct", "self_consistency 8", "self_consistency 16"),
    AnswerKind.CHOICE: ("direct", "self_consistency 8", "self_consistency 16"),
    AnswerKind.TEXT: ("direct", "self_consistency 8", "self_consistency 16"),
    AnswerKind.JSON: ("direct", "direct", "self_consistency 16"),
    AnswerKind.TOOLS: ("direct", "direct", "self_consistency 16"),
}


@pytest.mark.parametrize("kind", list(AnswerKind))
@pytest.mark.parametrize(("effort", "column"), [(Effort.LOW, 0), (Effort.MEDIUM, 1), (Effort.HIGH, 2)])
def test_the_plan_for(kind: AnswerKind, effort: Effort, column: int) -> None:
    """The plan has the strategy and the samples of the table, and its reason says that it is uncalibrated."""
    plan = PriorPolicy().plan(Query(kind, effort))
    assert " ".join([plan.strategy, *(str(value) for value in plan.params.values())]) == TABLE[kind][column]
    assert "uncalibrated" in plan.why
    assert not plan.is_calibrated
    STRATEGIES[plan.strategy].Params.model_validate(dict(plan.params))


def test_under_load_effort_falls_by_one_step_and_the_plan_says_so() -> None:
    """The effort falls before any request is rejected."""
    calm = PriorPolicy().plan(Query(AnswerKind.MATH, Effort.HIGH, load=BUSY_LOAD))
    busy = PriorPolicy().plan(Query(AnswerKind.MATH, Effort.HIGH, load=BUSY_LOAD + 0.01))
    assert (calm.params["n"], busy.params["n"]) == (16, 8)
    assert "busy" in busy.why
    assert PriorPolicy().plan(Query(AnswerKind.MATH, Effort.LOW, load=1)).strategy == "direct"


@pytest.mark.parametrize(
    ("ours", "openais", "effort"),
    [
        (None, None, "medium"),
        (None, "minimal", "low"),
        (None, "xhigh", "high"),
        (Effort.LOW, "high", "low"),
        (None, "odd", "medium"),
    ],
)
def test_effort_comes_from_the_caller_first(ours: Effort | None, openais: str | None, effort: str) -> None:
    """The `effort` of the `ponder` object comes first, then OpenAI's `reasoning_effort`, then medium."""
    assert effort_of(ours, openais) == effort


def test_auto_never_chooses_a_strategy_without_a_win_over_a_vote() -> None:
    """Neither the prior policy nor any policy that a file may hold, so a search over steps is always the caller's own choice."""
    chosen = {
        PriorPolicy().plan(Query(kind, effort, load=load)).strategy
        for kind, effort, load in product(AnswerKind, Effort, (0, 1))
    }
    _, plan = get_args(Bin.model_fields["plans"].annotation)
    chosen |= set(get_args(plan))
    assert chosen == {"direct", "self_consistency", "adaptive"}
    assert all(STRATEGIES[name].comparison not in {"", NO_WIN} for name in chosen)
    assert {one.name for one in STRATEGIES if one.comparison == NO_WIN} >= {"tree_of_thoughts", "mcts", "particle_filtering"}
