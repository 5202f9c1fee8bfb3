"""What a dry run returns: the plan of a request and what it is expected to take, without generating anything."""

from dataclasses import dataclass

from app.metering.budget import Budget
from app.routing.cascade import Member
from app.routing.throughput import Models, Prediction, ThroughputEstimator
from app.serving.planning import PlannedRequest
from app.serving.rendering import RenderedRequest
from strategies.core.strategy import Forecast


@dataclass(frozen=True, slots=True)
class PredictedRun:
    """The expected number of branches and rounds of a run, and its expected cost.

    Attributes:
        branches: the number of calls that generate.
        rounds: the number of calls that cannot run at the same time, since each needs the result of the one before.
        cost: the expected tokens, FLOPs and seconds.

    """

    branches: int
    rounds: int
    cost: Prediction


@dataclass(frozen=True, slots=True)
class Preview:
    """The plan that a request would get, and its expected cost.

    Attributes:
        model: the name of the model that would answer.
        prompt_tokens: the number of tokens of all prompts together.
        budget: the most that the request may spend.
        why: this model would answer; empty where the request names it.
        members: all that might answer, where the request leaves that open.

    """

    model: str
    planned: PlannedRequest
    prompt_tokens: int
    predicted: PredictedRun
    budget: Budget
    why: str = ""
    members: tuple[Member, ...] = ()


def predict(
    planned: PlannedRequest, rendered: RenderedRequest, throughput: ThroughputEstimator, models: Models
) -> PredictedRun:
    """Return the expected cost of the request, estimated from the cost of earlier requests."""
    answer_tokens = throughput.answer_tokens(min(prompt.max_tokens for prompt in rendered.prompts))
    forecasts = [
        planned.plan.expected_forecast(answer_tokens) or planned.strategy.forecast(task, answer_tokens)
        for task in rendered.tasks
    ]
    # The prompts of one request run side by side: their branches add up, their rounds do not.
    forecast = Forecast(
        branches=sum(one.branches for one in forecasts),
        tokens=sum(one.tokens for one in forecasts),
        rounds=max(one.rounds for one in forecasts),
        verifier_calls=sum(one.verifier_calls for one in forecasts),
    )
    prompt_tokens = rendered.num_tokens // len(rendered.prompts)
    cost = throughput.predict(forecast, planned.width, prompt_tokens, answer_tokens, models)
    return PredictedRun(forecast.branches, forecast.rounds, cost)
