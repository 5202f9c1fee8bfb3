"""The run of one request that several models may answer: leg by leg, each of them a session of the model's own service."""

import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from adapters.errors import AdapterError
from app.engine.base import Engine, PromptLogprobs
from app.errors import InvalidRequest, PonderError
from app.metering.budget import Budget
from app.metering.joined import joined
from app.metering.meter import Meter
from app.request import Caller, InferenceRequest, Outcome
from app.routing.cascade import Attempt, Choice
from app.routing.planner import AUTO
from app.serving.accounting import Account
from app.serving.leasing import Leases
from app.serving.members import Members, Seat
from app.serving.planning import PlannedRequest
from app.serving.rendering import RenderedRequest
from app.serving.session import Leg, ModelSession
from strategies.core.results import Progress
from strategies.core.values import Delta

FAILED = "failed"
"""The stop reason of a leg that an error ended."""


@dataclass(slots=True)
class _Run:
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


class CascadeSession:
    """The `app.serving.session.Session` of a request that several models may answer.

    Only the answer of a leg after which nobody is asked is streamed while it is written. Of the other legs, the progress is told.

    Args:
        members: who may answer.
        request: with the budget of all legs together.
        caller: who sent it.

    """

    def __init__(self, members: Members, request: InferenceRequest, caller: Caller) -> None:
        self.request = request
        self._members = members
        self._caller = caller
        self._started = time.monotonic()
        self._runs: list[_Run] = []
        self._answer: _Run | None = None
        self._refusal: Exception | None = None

    async def begin(self) -> AsyncExitStack:
        """Admit the request with the first model that takes it, and return what holds it there. Raises the first refusal."""
        if not await self._open_next():
            assert self._refusal is not None
            raise self._refusal
        return self._runs[0].stack

    async def _open_next(self) -> bool:
        """Admit the request with the next model that is worth asking; return whether there is one. Whoever refuses it is left out."""
        while (choice := self._members.choose(self._attempts)).member is not None:
            seat, stack = self._members.seats[choice.member], AsyncExitStack()
            request = replace(self.request, budget=self._budget_left(seat)) if self._runs else self.request
            asked = seat.asked(request, choice)
            try:
                session = await stack.enter_async_context(seat.service.open(asked, self._caller))
            except (PonderError, AdapterError) as error:
                self._leave_out(seat, error)
                if self._attempts:
                    return False
            else:
                self._runs.append(_Run(seat, choice, session, stack))
                return True
        return False

    @property
    def _attempts(self) -> list[Attempt]:
        return [run.attempt() for run in self._runs if run.outcome is not None]

    def _budget_left(self, seat: Seat) -> Budget:
        meter = self.meter
        return self.request.budget.capped(seat.service.planning.limits.budget).less(
            tokens=meter.generated_tokens,
            flops=meter.total_flops,
            seconds=time.monotonic() - self._started,
            thinking_tokens=meter.tokens["thinking"],
        )

    def _leave_out(self, seat: Seat, error: Exception) -> None:
        self._refusal = self._refusal or error
        self._members.drop(seat, error)
        self.request = replace(self.request, notes=(*self.request.notes, f"{seat.name} could not answer: {error}"))

    async def run(self, emit: Callable[[int, Delta | Progress], None]) -> Outcome:
        """Run leg after leg; see `Session.run`."""
        while await self._run_leg(self._runs[-1], emit) and await self._open_next():
            emit(0, Progress(self._runs[-1].choice.why))
        answers = [run for run in self._runs if run.outcome is not None]
        if not answers:
            assert self._refusal is not None
            raise self._refusal
        # the later one of two that are as probably right
        self._answer = min(reversed(answers), key=lambda run: run.attempt().difficulty)
        if self._answer is not self._runs[-1]:
            account = self._answer.session.account
            account.observers.traces.keep(self._caller.key, account.trace)
        assert self._answer.outcome is not None
        return self._answer.outcome

    async def _run_leg(self, run: _Run, emit: Callable[[int, Delta | Progress], None]) -> bool:
        """Run one leg, give its places back, and return whether another one may follow."""
        first_node = sum(one.num_nodes for one in self._runs[:-1])

        def forward(number: int, event: Delta | Progress) -> None:
            if isinstance(event, Progress):
                emit(number, _numbered_from(first_node, event) if first_node else event)
            elif run.is_last:
                run.is_streamed = True
                emit(number, event)

        try:
            async with run.stack:
                run.outcome = await run.session.run(forward)
        except (PonderError, AdapterError) as error:
            has_answer = bool(self._attempts)
            if run.is_streamed or (isinstance(error, InvalidRequest) and not has_answer):
                raise
            self._leave_out(run.seat, error)
            return not has_answer
        return not run.is_last and not self._budget_left(run.seat).is_spent

    @property
    def _current(self) -> _Run:
        return self._answer or self._runs[-1]

    @property
    def model(self) -> str:
        """The name of the model that answers; `auto` as long as another one may follow."""
        return AUTO if self._answer is None and not self._current.is_last else self._current.seat.name

    @property
    def engine(self) -> Engine:
        """The engine of the model that answers."""
        return self._current.session.engine

    @property
    def planned(self) -> PlannedRequest:
        """Its plan."""
        return self._current.session.planned

    @property
    def rendered(self) -> RenderedRequest:
        """Its prompt."""
        return self._current.session.rendered

    @property
    def leases(self) -> Leases:
        """Its leases."""
        return self._current.session.leases

    @property
    def account(self) -> Account:
        """Its records."""
        return self._current.session.account

    @property
    def prompt_logprobs(self) -> dict[int, PromptLogprobs]:
        """Its log-probabilities of the prompt."""
        return self._current.session.prompt_logprobs

    @property
    def legs(self) -> Sequence[Leg]:
        """What each model did, in order."""
        return tuple(run.told() for run in self._runs)

    @property
    def meter(self) -> Meter:
        """What all models have spent."""
        return joined([(run.seat.name, run.session.meter) for run in self._runs], self._current.session.meter)

    @property
    def prompt_tokens(self) -> int:
        """The tokens of the prompt, as each model has read it."""
        return sum(run.session.rendered.num_tokens for run in self._runs)


def _numbered_from(first: int, progress: Progress) -> Progress:
    """Return progress whose nodes are numbered behind those of earlier legs, so that a client can tell them apart."""
    nodes = tuple(
        replace(
            node,
            id=first + node.id,
            parent=None if node.parent is None else first + node.parent,
            in_view=tuple(first + seen for seen in node.in_view),
        )
        for node in progress.nodes
    )
    return replace(progress, nodes=nodes)
