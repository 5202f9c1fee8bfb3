"""From the kind of answer, the caller's effort and the load: a plan.

`Policy` is the seam; `PriorPolicy` is what holds where nothing was measured for a model, and says so in every plan.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Protocol

from strategies.base import AnswerKind

BUSY_LOAD = 0.75
"""Share of the admitted branches above which effort is lowered by one step, before anybody is rejected."""


class Effort(StrEnum):
    """How much compute a point of accuracy is worth to the caller."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


_FROM_OPENAI = {
    "none": Effort.LOW,
    "minimal": Effort.LOW,
    "low": Effort.LOW,
    "medium": Effort.MEDIUM,
    "high": Effort.HIGH,
    "xhigh": Effort.HIGH,
}


def effort_of(effort: Effort | None, reasoning_effort: str | None) -> Effort:
    """The caller's own effort, else OpenAI's `reasoning_effort`, else medium."""
    return effort or _FROM_OPENAI.get(reasoning_effort or "", Effort.MEDIUM)


@dataclass(frozen=True, slots=True)
class Plan:
    """A strategy with its parameters, and the reason in words for the caller."""

    strategy: str
    params: Mapping[str, object] = field(default_factory=dict)
    why: str = ""
    is_calibrated: bool = False


class Policy(Protocol):
    """Chooses for requests that name no strategy."""

    def plan(self, kind: AnswerKind, effort: Effort, *, load: float) -> Plan:
        """A plan for a question whose answers compare as `kind`; `load` is 0 (idle) to 1 (nothing more is admitted)."""
        ...


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

    def plan(self, kind: AnswerKind, effort: Effort, *, load: float) -> Plan:
        """See `Policy`."""
        if load > BUSY_LOAD and effort is not Effort.LOW:
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
