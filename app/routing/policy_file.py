"""The file of a calibrated policy, which `ponder calibrate` writes and a server reads.

It holds fitted numbers, how they were made, and the accuracy and cost of plans. Where an attribute has another name than its key
in the file, the key stands in `alias`: the keys are older, and files with them must stay readable.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.errors import InvalidRequest
from app.request import NUM_BINS, Effort
from app.routing.estimators import Estimator, Number
from app.routing.features import EVIDENCE_FEATURES, NUM_PROMPT_FEATURES
from strategies.checking.thoughts import LONGEST_WORD
from strategies.checking.trials import Mean
from strategies.core.thinking import ExitThreshold
from strategies.core.values import AnswerKind

LEAST_QUESTIONS = 20
"""The fewest questions that anything is fitted to."""

Positive = Annotated[float, Field(gt=0, le=1e30, allow_inf_nan=False)]


T = TypeVar("T", bound=BaseModel)


def parse_file(file_type: type[T], content: bytes, name: str) -> T:
    """Parse the bytes of a file of fitted numbers; raises `InvalidRequest` with the first thing that is wrong with them.

    `name` says in the message what the file is.
    """
    try:
        return file_type.model_validate_json(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or name
        raise InvalidRequest(f"The {name} is broken at `{where}`: {fault['msg']}", parameter=where) from error


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)


class ExpectedGain(_Part):
    """What continuing to a later stage is expected to gain and to cost.

    Attributes:
        stage: the index of the later stage.
        accuracy: estimates what is added to the accuracy, in [-1, 1].
        token_growth: estimates log(tokens at the later stage / tokens now).

    """

    stage: Annotated[int, Field(ge=1, le=32)]
    accuracy: Estimator = Field(alias="expected")
    token_growth: Estimator = Field(alias="tokens")


class Stage(_Part):
    """The estimators for one size of a search.

    Attributes:
        answers: the number of answers at this stage.
        right: estimates the probability that the leading answer is right.
        gains: one for each later stage.

    """

    answers: Annotated[int, Field(ge=1, le=256)]
    right: Estimator
    gains: tuple[ExpectedGain, ...] = Field(max_length=32)


def check_stages(stages: Sequence[Stage], num_features: int) -> None:
    """Raise `ValueError` unless the stages grow from one answer, and their estimators take so many features."""
    answers = [stage.answers for stage in stages]
    if answers[0] != 1 or not all(smaller < larger <= 2 * smaller for smaller, larger in pairwise(answers)):
        raise ValueError("stages must begin with one answer and grow, to twice as many at most")
    for number, stage in enumerate(stages):
        for estimator in (stage.right, *(one for gain in stage.gains for one in (gain.accuracy, gain.token_growth))):
            if estimator.size != num_features:
                raise ValueError(f"an estimator of stage {number} takes {estimator.size} features, not {num_features}")
        if any(not number < gain.stage < len(stages) for gain in stage.gains):
            raise ValueError(f"stage {number} has gains for a stage that is not a later one")


class MeasuredPlan(_Part):
    """The accuracy and the mean cost of a plan, on questions that nothing was fitted to."""

    plan: Annotated[str, Field(max_length=200)]
    accuracy: Annotated[float, Field(ge=0, le=1)]
    flops: Positive
    branches: Positive


def auto_label(effort: Effort) -> str:
    """Return the name that the policy itself has among the measured plans."""
    return f"auto, {effort}"


class Bin(_Part):
    """One quintile of the questions by predicted difficulty: the plan of each effort, and the measured plans there."""

    plans: dict[Effort, Literal["direct", "adaptive"]]
    measured: tuple[MeasuredPlan, ...] = Field((), max_length=64)


class MeasuredExit(_Part):
    """A threshold of `early_exit`, and what such thresholds did on questions that they were not chosen on.

    Attributes:
        confidence: how the probabilities of a trial answer's tokens are averaged.
        transitions: the places where trials are made.
        accuracy: the gain in accuracy over whole thinking, negative for a loss.
        thinking: the tokens that were thought, as a share of those of whole thinking.
        trials: the tokens of trial answers, as a share of the same.

    """

    confidence: Mean
    transitions: tuple[Annotated[str, Field(min_length=1, max_length=LONGEST_WORD)], ...] = Field(min_length=1, max_length=32)
    threshold: Annotated[float, Field(ge=0, le=1)]
    accuracy: Annotated[float, Field(ge=-1, le=1)]
    thinking: Annotated[float, Field(ge=0, le=1)]
    trials: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Exits(_Part):
    """Where the thinking of this model may end early. No threshold is there where none was good enough.

    Attributes:
        questions: the number of questions whose thinking was tried.
        thresholds: cheapest first.

    """

    version: Literal[1] = 1
    questions: Annotated[int, Field(ge=1)]
    thresholds: tuple[MeasuredExit, ...] = Field((), max_length=32)

    def for_strategies(self) -> tuple[ExitThreshold, ...]:
        """Return the thresholds as strategies read them."""
        return tuple(ExitThreshold(one.confidence, one.transitions, one.threshold) for one in self.thresholds)


class RiskPoint(_Part):
    """What the policy loses against the best fixed plan at one price, on questions that it was not fitted to.

    Attributes:
        price: the accuracy (1 is all questions) that a FLOP must gain.
        loss: the mean, -1 to 1. A question's loss is the largest at this price and all below it.
        bound: of the expected loss on the next question, by conformal risk control (Angelopoulos et al. 2022, arXiv:2208.02814).

    """

    price: Positive
    loss: Annotated[float, Field(ge=-1, le=1)]
    bound: Annotated[float, Field(ge=-1, le=1)]


class Risk(_Part):
    """What may be lost against the best fixed plan, by price.

    Attributes:
        plan: the best fixed plan, as reports call it.
        strategy: of this plan.
        params: of this strategy.
        questions: the number of questions that the losses were measured on.
        points: dearest price first.

    """

    plan: Annotated[str, Field(max_length=200)]
    strategy: Annotated[str, Field(max_length=64)]
    params: dict[str, Any] = Field(max_length=32)
    questions: Annotated[int, Field(ge=1)]
    points: tuple[RiskPoint, ...] = Field(min_length=1, max_length=64)

    def dearest_within(self, risk: float) -> RiskPoint | None:
        """Return the dearest price whose bound is at most the risk, 0 to 1; None where none is."""
        return max((one for one in self.points if one.bound <= risk), key=lambda one: one.price, default=None)


class PolicyFile(_Part):
    """The whole policy of one model or adapter.

    Attributes:
        model: the name of the base model.
        adapter: the hash of the adapter's weights, None for the base model alone.
        provenance: how and when the policy was made, for people.
        architecture: the architecture of the measured model with its adapter. It tells apart two models of the same name.
        temperature: the temperature at which the samples were drawn.
        attempts: how often an answer may be begun or continued, at most.
        kinds: the kinds of answers that were measured. Open answers are not among them, since they cannot be compared.
        prompt_difficulty: estimates from the prompt alone the probability that the first answer is wrong.
        edges: the predicted difficulties that separate the bins.
        flops_per_token: the mean FLOPs of a token that is generated after the first answer, its share of the prompt included.
        prices: the accuracy (1 is all questions) that a FLOP must gain, by effort.
        stages: by the number of answers, rising.
        bins: from the easiest to the hardest.
        risk: what may be lost at each price; None where outcomes were only estimated, as in older files.
        exits: where thinking may end early; None where that was not measured, as in older files.

    """

    version: Literal[1]
    model: Annotated[str, Field(min_length=1, max_length=200)]
    adapter: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None
    provenance: dict[str, Any]
    architecture: dict[str, Any]
    temperature: Annotated[float, Field(gt=0, le=2)]
    attempts: Annotated[int, Field(ge=1, le=64)]
    kinds: frozenset[AnswerKind] = Field(min_length=1)
    prompt_difficulty: Estimator = Field(alias="before")
    edges: tuple[Number, ...] = Field(min_length=NUM_BINS - 1, max_length=NUM_BINS - 1)
    flops_per_token: Positive
    prices: dict[Effort, Positive]
    stages: tuple[Stage, ...] = Field(min_length=2, max_length=32)
    bins: tuple[Bin, ...] = Field(min_length=NUM_BINS, max_length=NUM_BINS)
    exits: Exits | None = None
    risk: Risk | None = None

    @property
    def questions_per_bin(self) -> float:
        """The number of questions that a bin was fitted to; that of the fewest possible where the provenance does not tell."""
        number = self.provenance.get("questions")
        return (number if isinstance(number, int) and number > 0 else LEAST_QUESTIONS) / NUM_BINS

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.prompt_difficulty.size != NUM_PROMPT_FEATURES:
            raise ValueError(f"`before` takes {self.prompt_difficulty.size} features, not {NUM_PROMPT_FEATURES}")
        if AnswerKind.OPEN in self.kinds:
            raise ValueError("open answers cannot be compared, so they have no policy")
        check_stages(self.stages, len(EVIDENCE_FEATURES))
        if list(self.edges) != sorted(self.edges):
            raise ValueError("the edges of the bins do not rise")
        if set(self.prices) != set(Effort) or any(set(one.plans) != set(Effort) for one in self.bins):
            raise ValueError(f"prices and plans are needed for all of {', '.join(Effort)}")
        return self
