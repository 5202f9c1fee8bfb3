"""What an answer would have cost otherwise."""

import pytest

from app.engine.architecture import Architecture
from app.metering.comparisons import Usual, compare
from app.metering.meter import Budget, Meter
from strategies.core.results import Result
from strategies.core.strategy import Forecast
from strategies.core.values import AnswerKind, Candidate, ScoredCandidate, StopReason, Task

MODEL = Architecture(
    num_layers=2, hidden_size=8, num_heads=2, num_kv_heads=1, head_dim=4, intermediate_size=16, vocab_size=32
)  # fmt: skip


def result(*lengths: int, finish: str = "stop") -> Result:
    """Of answers of these lengths."""
    answers = tuple(ScoredCandidate(Candidate(i, "", tuple(range(length)), finish)) for i, length in enumerate(lengths))
    return Result(answers[:1], answers, StopReason.SETTLED)


def test_best_of_16_is_one_prefill_and_sixteen_answers_of_the_usual_length() -> None:
    """Whatever of them this request has drawn."""
    usual = Usual.of(MODEL, 10, result(4, 6))
    prefill, decode = MODEL.branch_cost(10, 0, 5)
    assert usual.best_of() == prefill + 16 * decode


def test_answers_that_were_cut_off_tell_no_length_where_others_do() -> None:
    """They tell it where there are no others; nothing drawn is no length at all."""
    cut = ScoredCandidate(Candidate(2, "", (1,), "abort"))
    whole = result(6)
    assert Usual.of(MODEL, 10, Result(whole.chosen, (*whole.candidates, cut), StopReason.SETTLED)).tokens == 6
    assert Usual.of(MODEL, 10, result(3, finish="abort")).tokens == 3
    assert Usual.of(MODEL, 10, Result((), (), StopReason.TOKENS)).tokens == 0


@pytest.mark.parametrize(("planned", "generated", "left"), [(80, 20, 60), (80, 80, 0), (80, 90, 0)])
def test_what_was_left_of_a_plan_is_priced_at_the_mean_of_what_was_drawn(planned: int, generated: int, left: int) -> None:
    """Nothing is left where more was drawn than planned."""
    usual = Usual.of(MODEL, 10, result(5))
    assert usual.rest_of(planned, generated) == left * MODEL.branch_cost(10, 0, 5)[1] // 5


@pytest.mark.parametrize(
    ("budget", "left"), [(Budget(), 60), (Budget(tokens=50), 30), (Budget(tokens=20), 0), (Budget(flops=0), 0)]
)  # fmt: skip
def test_nothing_is_saved_that_the_budget_would_not_have_allowed(budget: Budget, left: int) -> None:
    """Of 16 answers of 5 tokens, after four."""
    meter = Meter(MODEL, budget)
    meter.tokens["decoded"] = 20
    task = Task(question="", prefix=tuple(range(10)), kind=AnswerKind.MATH)
    compare(meter, MODEL, [task], [result(5, 5, 5, 5)], lambda _task, tokens: Forecast(16, 16 * tokens))
    assert meter.saved["early_stopping"] == left * MODEL.branch_cost(10, 0, 5)[1] // 5
    assert meter.best_of == Usual(MODEL, 10, 5).best_of()


def test_a_rule_that_goes_on_while_it_pays_leaves_nothing() -> None:
    """It planned no more than it did."""
    meter = Meter(MODEL, Budget())
    compare(meter, MODEL, [Task(question="", prefix=(1,), kind=AnswerKind.MATH)], [result(5)], None)
    assert not meter.saved["early_stopping"]
