"""The run of one request that several models may answer: leg by leg, each of them a session of the model's own service."""

import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from adapters.errors import AdapterError
from app.engine.base import Engine, PromptLogprobs
from app.errors import InvalidRequest, PonderError
from app.metering.budget import Budget
from app.metering.joined import joined
from app.metering.meter import Meter
from app.request import Caller, InferenceRequest, Outcome
from app.routing.cascade import Attempt
from app.routing.planner import AUTO
from app.serving.accounting import Account
from app.serving.cascade_run import CascadeRun
from app.serving.leasing import Leases
from app.serving.members import Members, Seat
from app.serving.planning import PlannedRequest
from app.serving.rendering import RenderedRequest
from app.serving.session import Leg
from strategies.core.results import Progress
from strategies.core.values import Delta


class CascadeSession:
    """The `app.serving.session.Session` of a request that several models may answer.

    Only the answer of a leg after which nobody is asked is streamed while it is written. Of the other legs, the progress is told.

    Args:
        members: who may answer.
        request: with the budget of all legs together.
        caller: who sent it.

    """

    def __init__(self, members: Members, request: InferenceRequest, caller: Caller) -> None:
        self.request = replace(request, notes=(*request.notes, *members.notes))
        self._members = members
        self._caller = caller
        self._started = time.monotonic()
        self._runs: list[CascadeRun] = []
        self._answer: CascadeRun | None = None
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
                self._runs.append(CascadeRun(seat, choice, session, stack))
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
        account = self._answer.session.account
        account.observers.metrics.count_auto_answer(account.labels, is_first=self._answer is self._runs[0])
        if self._answer is not self._runs[-1]:
            account.observers.traces.keep(self._caller.key, account.trace)
        assert self._answer.outcome is not None
        return self._answer.outcome

    async def _run_leg(self, run: CascadeRun, emit: Callable[[int, Delta | Progress], None]) -> bool:
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
    def _current(self) -> CascadeRun:
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
