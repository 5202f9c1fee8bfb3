"""Estimates of what a request would have cost otherwise: a fixed best-of-16, and the rest of a plan that stopped early."""

import pytest

from app.engine.architecture import Architecture
from app.metering.budget import Budget
from app.metering.comparisons import TypicalAnswer, compare
from app.metering.meter import Meter
from strategies.core.results import Result
from strategies.core.strategy import Forecast
from strategies.core.values import AnswerKind, Candidate, ScoredCandidate, StopReason, Task

MODEL = Architecture.dense(
    num_layers=2, hidden_size=8, num_heads=2, num_kv_heads=1, head_dim=4, intermediate_size=16, vocab_size=32
)  # fmt: skip


def result(*lengths: int, finish: str = "stop") -> Result:
    """Return a result with answers of these lengths in tokens."""
    answers = tuple(ScoredCandidate(Candidate(i, "", tuple(range(length)), finish)) for i, length in enumerate(lengths))
    return Result(answers[:1], answers, StopReason.SETTLED)


def test_best_of_16_is_one_prefill_and_sixteen_answers_of_the_mean_length() -> None:
    """The number of answers that the request itself drew does not matter."""
    typical = TypicalAnswer.of(MODEL, 10, result(4, 6))
    prefill, decode = MODEL.branch_cost(10, 0, 5)
    assert typical.best_of() == prefill + 16 * decode


def test_answers_that_were_cut_off_do_not_count_where_others_are_whole() -> None:
    """They count where all were cut off; without any answer the length is 0."""
    cut = ScoredCandidate(Candidate(2, "", (1,), "abort"))
    whole = result(6)
    assert TypicalAnswer.of(MODEL, 10, Result(whole.chosen, (*whole.candidates, cut), StopReason.SETTLED)).tokens == 6
    assert TypicalAnswer.of(MODEL, 10, result(3, finish="abort")).tokens == 3
    assert TypicalAnswer.of(MODEL, 10, Result((), (), StopReason.TOKENS)).tokens == 0


@pytest.mark.parametrize(("planned", "generated", "left"), [(80, 20, 60), (80, 80, 0), (80, 90, 0)])
def test_the_rest_of_a_plan_costs_as_much_a_token_as_the_mean_answer(planned: int, generated: int, left: int) -> None:
    """The rest is 0 where more tokens were generated than planned."""
    typical = TypicalAnswer.of(MODEL, 10, result(5))
    assert typical.rest_of(planned, generated) == left * MODEL.branch_cost(10, 0, 5)[1] // 5


@pytest.mark.parametrize(
    ("budget", "left"), [(Budget(), 60), (Budget(tokens=50), 30), (Budget(tokens=20), 0), (Budget(flops=0), 0)]
)  # fmt: skip
def test_nothing_is_saved_that_the_budget_would_not_have_allowed(budget: Budget, left: int) -> None:
    """The plan is 16 answers of 5 tokens, of which four were drawn."""
    meter = Meter(MODEL, budget)
    meter.tokens["decoded"] = 20
    task = Task(question="", prefix=tuple(range(10)), kind=AnswerKind.MATH)
    compare(meter, MODEL, [task], [result(5, 5, 5, 5)], lambda _task, tokens: Forecast(16, 16 * tokens))
    assert meter.saved["early_stopping"] == left * MODEL.branch_cost(10, 0, 5)[1] // 5
    assert meter.best_of == TypicalAnswer(MODEL, 10, 5).best_of()


def test_a_strategy_without_a_plan_saves_nothing_by_stopping() -> None:
    """A stopping rule that samples while that pays has no rest of a plan."""
    meter = Meter(MODEL, Budget())
    compare(meter, MODEL, [Task(question="", prefix=(1,), kind=AnswerKind.MATH)], [result(5)], None)
    assert not meter.saved["early_stopping"]
