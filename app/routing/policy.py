"""What a plan is, and the prior policy, which plans from the kind of answer, the effort and the load alone, where no vote was measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from app.request import Effort
from app.routing.difficulty import Difficulty
from app.routing.general_features import PromptReading
from app.routing.learning.learner import Lessons
from app.routing.policy_file import MeasuredPlan
from app.routing.value_of_computation import ValueOfComputationRule
from strategies.core.strategy import Forecast
from strategies.core.thinking import ExitThreshold
from strategies.core.values import AnswerKind

BUSY_LOAD = 0.75
"""The load, 0 to 1, above which `auto` lowers its effort. Nothing is rejected yet at this load."""


@dataclass(frozen=True, slots=True)
class ExpectedCost:
    """What a plan cost on average on measured questions of the same difficulty bin.

    Attributes:
        branches: the number of branches that it drew.
        flops_ratio: its FLOPs, divided by those of a direct answer.

    """

    branches: float
    flops_ratio: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A strategy with its parameters, and the reason for it, in words for the caller.

    Attributes:
        difficulty: estimated from the prompt; None where no answer can be right or wrong.
        bin: the quintile of the difficulty, counted from 1; 0 where there is no difficulty.
        rule: decides after each wave of a strategy that samples in waves whether another one follows.
        temperature: the temperature of a request that sets none; None for the strategy's own temperature.
        alternatives: the accuracy and the cost of other plans on questions of the same bin.
        expected: the cost of this plan on questions of the same bin, None where it was not measured.
        exits: the thresholds of early exits that were measured for the model and this kind of answer, cheapest first.

    """

    strategy: str
    params: Mapping[str, object] = field(default_factory=dict)
    why: str = ""
    is_calibrated: bool = False
    difficulty: Difficulty | None = None
    bin: int = 0
    rule: ValueOfComputationRule | None = None
    temperature: float | None = None
    alternatives: tuple[MeasuredPlan, ...] = ()
    expected: ExpectedCost | None = None
    exits: tuple[ExitThreshold, ...] = ()

    @property
    def difficulty_before(self) -> float | None:
        """The estimated probability that the first answer is wrong, from the prompt alone; None where none can be right or wrong."""
        return None if self.difficulty is None else self.difficulty.probability

    def expected_forecast(self, answer_tokens: int) -> Forecast | None:
        """Return what the plan takes on average instead of what it takes at most; None where it was not measured.

        Args:
            answer_tokens: the expected length of one answer.

        """
        if self.expected is None:
            return None
        branches = max(round(self.expected.branches), 1)
        # the number of branches doubles with each wave, so the rounds are the bit length of the number of branches
        return Forecast(branches, round(self.expected.flops_ratio * answer_tokens), branches.bit_length())


NOT_READ = PromptReading("", AnswerKind.OPEN)
"""Stands for the features of a question that nobody has read yet."""


@dataclass(frozen=True, slots=True)
class Query:
    """The properties of a request, and the load, from which a policy makes a plan.

    Attributes:
        kind: the kind of the answer.
        effort: the price of compute that the caller accepts.
        question: the last message of the user.
        load: the load of the server, 0 (idle) to 1 (no further request is admitted).
        token_flops: the FLOPs that the model takes for a token, which tell its size.
        price: the accuracy that a FLOP must gain, where a cascade asks; None for the price of the effort.
        is_followed: whether a cascade may ask another model after this one, so that the answer must show how good it is.
        lessons: begins the lesson of the request; None where nothing is learned.
        risk: the most accuracy, 0 to 1, that may be lost against the best fixed plan; None leaves that to the effort.
        reading: the features of the question, which copies of this query share.

    """

    kind: AnswerKind
    effort: Effort
    question: str = ""
    load: float = 0.0
    token_flops: float = 1e9
    price: float | None = None
    is_followed: bool = False
    lessons: Lessons | None = None
    risk: float | None = None
    reading: PromptReading = field(default=NOT_READ, compare=False)

    def __post_init__(self) -> None:
        if self.reading is NOT_READ:
            object.__setattr__(self, "reading", PromptReading(self.question, self.kind))

    def corrected(self, estimate: Difficulty, digest: str) -> Difficulty:
        """Return an estimate with what was learned of it. `digest` is that of the estimator's numbers."""
        if self.lessons is None:
            return estimate
        return estimate.corrected(self.lessons.begin(estimate.estimator, digest, estimate.probability))


class PriorPolicy:
    """Plans from published results: the general estimator asks it for kinds of answers whose votes nobody has measured.

    A vote pays where answers can be compared and one sample is right often enough, and its gain saturates soon (Aggarwal et al.
    2023, arXiv:2305.11860; Li et al. 2024, arXiv:2401.10480). So at most sixteen samples vote, with early stopping. Where
    answers cannot be compared, a vote has no meaning. An answer whose form is constrained (JSON, tool calls) is mostly right or
    wrong in all samples alike, so only high effort votes on it.
    """

    _NUM_SAMPLES: ClassVar = {Effort.MEDIUM: 8, Effort.HIGH: 16}
    _CONSTRAINED = frozenset({AnswerKind.JSON, AnswerKind.TOOLS})

    def plan(self, query: Query) -> Plan:
        """Return a plan whose `why` says that it is not calibrated. Under load it is the plan of the next lower effort."""
        kind, effort = query.kind, query.effort
        if query.load > BUSY_LOAD and effort is not Effort.LOW:
            lowered = Effort.MEDIUM if effort is Effort.HIGH else Effort.LOW
            plan = self._plan(kind, lowered)
            return Plan(plan.strategy, plan.params, f"the server is busy, effort lowered to {lowered}; {plan.why}")
        return self._plan(kind, effort)

    def _plan(self, kind: AnswerKind, effort: Effort) -> Plan:
        if kind is AnswerKind.OPEN:
            return Plan("direct", why="open-ended: there is no answer to vote on (uncalibrated prior)")
        if effort is Effort.LOW:
            return Plan("direct", why="low effort: one answer (uncalibrated prior)")
        if kind in self._CONSTRAINED and effort is not Effort.HIGH:
            return Plan("direct", why=f"{kind} answers are constrained already: one is enough (uncalibrated prior)")
        return Plan(
            "self_consistency",
            {"n": self._NUM_SAMPLES[effort]},
            why=f"{kind} answers can be compared: a vote that stops when it is settled (uncalibrated prior)",
        )
