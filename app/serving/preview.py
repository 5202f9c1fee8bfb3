"""What a dry run tells: the plan of a request and what it is expected to take, without generating anything."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.metering.meter import Budget
from app.routing.policy_file import MeasuredPlan
from app.routing.throughput import Prediction
from strategies.core.values import AnswerKind


@dataclass(frozen=True, slots=True)
class Preview:
    """What a request would get and take, told without generating anything.

    Attributes:
        difficulty: from the prompt, None where nothing was measured; `alternatives`: what plans were worth on questions as hard.

    """

    model: str
    strategy: str
    parameters: Mapping[str, Any]
    why: str
    is_calibrated: bool
    difficulty: float | None
    alternatives: tuple[MeasuredPlan, ...]
    kind: AnswerKind
    prompt_tokens: int
    branches: int
    rounds: int
    prediction: Prediction
    budget: Budget
