"""What a plan is, and the prior: from the kind of answer, the caller's effort and the load alone, where nothing was measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from app.request import Effort
from app.routing.policy_file import Measured
from app.routing.stopping_rule import ValueOfComputationRule
from strategies.core.strategy import Forecast
from strategies.core.values import AnswerKind

BUSY_LOAD = 0.75
"""Share of the admitted branches above which effort is lowered by one step, before anybody is rejected."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a plan took on questions as hard as this one.

    Attributes:
        branches: that were drawn, on average.
        times: FLOPs, as many times those of a direct answer.

    """

    branches: float
    times: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A strategy with its parameters, and the reason in words for the caller.

    Attributes:
        difficulty: estimated from the prompt, None where nothing was measured; `bin` its fifth, from 1.
        rule: decides after each wave of a strategy that asks.
        temperature: where the caller gives none; None for the strategy's own.
        alternatives: what plans were worth on questions as hard as this one; `expected` what this one took, None where nothing was
            measured.

    """

    strategy: str
    params: Mapping[str, object] = field(default_factory=dict)
    why: str = ""
    is_calibrated: bool = False
    difficulty: float | None = None
    bin: int = 0
    rule: ValueOfComputationRule | None = None
    temperature: float | None = None
    alternatives: tuple[Measured, ...] = ()
    expected: Expected | None = None

    def usual(self, answer_tokens: int) -> Forecast | None:
        """What it takes on average, instead of what it may take; None where nothing was measured."""
        if self.expected is None:
            return None
        branches = max(round(self.expected.branches), 1)
        return Forecast(branches, round(self.expected.times * answer_tokens), branches.bit_length())


@dataclass(frozen=True, slots=True)
class Query:
    """What a policy is asked about.

    Attributes:
        question: the last message of the user.
        load: 0 (idle) to 1 (nothing more is admitted).

    """

    kind: AnswerKind
    effort: Effort
    question: str = ""
    load: float = 0.0


class PriorPolicy:
    """What the literature leads one to expect, not measured on the served model.

    Voting pays where answers can be compared and one sample is right often enough, and saturates soon (Aggarwal et al. 2023,
    Li et al. 2024): sixteen samples with early stopping are the most. Where answers cannot be compared a vote is meaningless.
    An answer whose form is constrained (JSON, tool calls) is mostly right or wrong in substance for all samples alike, so only
    high effort votes on it.
    """

    _NUM_SAMPLES: ClassVar = {Effort.MEDIUM: 8, Effort.HIGH: 16}
    _COMPARABLE = frozenset({AnswerKind.MATH, AnswerKind.CHOICE, AnswerKind.TEXT})
    _CONSTRAINED = frozenset({AnswerKind.JSON, AnswerKind.TOOLS})

    def plan(self, query: Query) -> Plan:
        """A plan, which says that it is not calibrated."""
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
