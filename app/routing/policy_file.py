"""A calibrated policy as `ponder calibrate` writes it and a server reads it: numbers, where they come from, and what they were worth."""

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.request import Effort
from app.routing.estimators import Estimator, Number
from app.routing.features import EVIDENCE, NUM_BUCKETS, NUMBERS
from strategies.core.values import AnswerKind

NUM_BINS = 5

Positive = Annotated[float, Field(gt=0, le=1e30, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Gain(_Part):
    """What going on to a later stage is expected to bring and to take.

    Attributes:
        stage: number of that stage.
        expected: added to the accuracy, in [-1, 1].
        tokens: log of 1 + the share of tokens that are generated besides, of those that there are.

    """

    stage: Annotated[int, Field(ge=1, le=32)]
    expected: Estimator
    tokens: Estimator


class Stage(_Part):
    """With so many answers: whether the leading one is right, and what later stages would bring."""

    answers: Annotated[int, Field(ge=1, le=256)]
    right: Estimator
    gains: tuple[Gain, ...] = Field(max_length=32)


class Measured(_Part):
    """What a plan was worth on questions that nothing was fitted to."""

    plan: Annotated[str, Field(max_length=200)]
    accuracy: Annotated[float, Field(ge=0, le=1)]
    flops: Positive
    branches: Positive


def auto_label(effort: Effort) -> str:
    """What the policy itself is called among measured plans."""
    return f"auto, {effort}"


class Bin(_Part):
    """A fifth of the questions by predicted difficulty: the plan of each effort, and what plans were worth there."""

    plans: dict[Effort, Literal["direct", "adaptive"]]
    measured: tuple[Measured, ...] = Field((), max_length=64)


class PolicyFile(_Part):
    """The whole policy of one model or adapter.

    Attributes:
        model: name of the base, `adapter` the hash of the adapter's weights, None for the base alone.
        provenance: what it was made of and when, for people.
        architecture: of what was measured, adapter included: another model of the same name is told by it.
        temperature: of sampling.
        kinds: of answers that it was calibrated on; not open ones, which cannot be compared.
        attempts: the most times that each answer may begin or go on.
        before: difficulty from the prompt alone: the probability that the first answer is wrong.
        edges: predicted difficulties between the bins.
        flops_per_token: of what is generated after the first answer, its part of the prompt included.
        prices: accuracy (1 is all questions) that a FLOP must bring, by effort.

    """

    version: Literal[1]
    model: Annotated[str, Field(min_length=1, max_length=200)]
    adapter: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None
    provenance: dict[str, Any]
    architecture: dict[str, Any]
    temperature: Annotated[float, Field(gt=0, le=2)]
    attempts: Annotated[int, Field(ge=1, le=64)]
    kinds: frozenset[AnswerKind] = Field(min_length=1)
    before: Estimator
    edges: tuple[Number, ...] = Field(min_length=NUM_BINS - 1, max_length=NUM_BINS - 1)
    flops_per_token: Positive
    prices: dict[Effort, Positive]
    stages: tuple[Stage, ...] = Field(min_length=2, max_length=32)
    bins: tuple[Bin, ...] = Field(min_length=NUM_BINS, max_length=NUM_BINS)

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if self.before.size != NUM_BUCKETS + len(NUMBERS):
            raise ValueError(f"`before` takes {self.before.size} features, not {NUM_BUCKETS + len(NUMBERS)}")
        answers = [stage.answers for stage in self.stages]
        if AnswerKind.OPEN in self.kinds:
            raise ValueError("open answers cannot be compared: no policy holds for them")
        if answers[0] != 1 or not all(before < after <= 2 * before for before, after in pairwise(answers)):
            raise ValueError("stages must begin with one answer and grow, to twice as many at most")
        for number, stage in enumerate(self.stages):
            for estimator in (stage.right, *(one for gain in stage.gains for one in (gain.expected, gain.tokens))):
                if estimator.size != len(EVIDENCE):
                    raise ValueError(f"an estimator of stage {number} takes {estimator.size} features, not {len(EVIDENCE)}")
            if any(not number < gain.stage < len(self.stages) for gain in stage.gains):
                raise ValueError(f"stage {number} has gains for what is no later stage")
        if list(self.edges) != sorted(self.edges):
            raise ValueError("the edges of the bins do not rise")
        if set(self.prices) != set(Effort) or any(set(one.plans) != set(Effort) for one in self.bins):
            raise ValueError(f"prices and plans are needed for all of {', '.join(Effort)}")
        return self
