"""One leg of a request that several models may answer: the session of one model, and what it shows to the policy and to the caller."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from app.request import Outcome
from app.routing.cascade import Attempt, Choice
from app.serving.members import Seat
from app.serving.session import Leg, ModelSession

FAILED = "failed"
"""The stop reason of a leg that an error ended."""


@dataclass(slots=True)
class CascadeRun:
    """One leg.

    Attributes:
        stack: holds the session open.
        outcome: None before its end, and where an error ended it.
        is_streamed: a part of its answer was sent, which cannot be taken back.

    """

    seat: Seat
    choice: Choice
    session: ModelSession
    stack: AsyncExitStack
    outcome: Outcome | None = None
    is_streamed: bool = False

    @property
    def is_last(self) -> bool:
        """Whether nobody is asked after it. An answer without waves shows nothing that was not known when its model was chosen."""
        return self.choice.is_last or self.session.planned.plan.rule is None

    @property
    def difficulty(self) -> float | None:
        """The estimated probability that its answer is wrong, None where none can be right or wrong. An answer that was cut is wrong."""
        plan = self.session.planned.plan
        if plan.difficulty is None or self.outcome is None:
            return None
        if not self.outcome.results[0].chosen[0].candidate.is_complete:
            return 1.0
        after = None if plan.rule is None else plan.rule.difficulty_after_wave
        return plan.difficulty.probability if after is None else after

    @property
    def num_nodes(self) -> int:
        """The number of ids that its nodes take."""
        return max((node_id for _, node_id in self.session.account.trace.nodes), default=-1) + 1

    def attempt(self) -> Attempt:
        """Return it as the policy reads it."""
        rule, difficulty = self.session.planned.plan.rule, self.difficulty
        return Attempt(self.seat.name, 1.0 if difficulty is None else difficulty, None if rule is None else rule.evidence)

    def told(self) -> Leg:
        """Return it as the caller reads it."""
        return Leg(
            self.seat.name,
            self.session.planned.strategy.name,
            self.choice.why,
            self.difficulty,
            self.session.meter.total_flops,
            FAILED if self.outcome is None else self.outcome.stop_reason.value,
        )
