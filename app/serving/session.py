"""One admitted request: the strategy's run, on everything that was planned, rendered and leased for it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace

from adapters.residency import Lease
from app.admission import Admission, Ticket
from app.engine.base import Engine, Prompt
from app.errors import InvalidRequest
from app.metering.comparisons import compare
from app.metering.meter import Meter
from app.request import Caller, InferenceRequest, Outcome
from app.routing.policy import Plan
from app.routing.throughput import ThroughputEstimator
from app.search_traces import SearchTrace
from app.serving.metered_model import MeteredModel, first_leaf
from app.telemetry.request_metrics import Labels
from app.telemetry.span_attributes import of_outcome, of_result
from app.telemetry.spans import Span
from strategies.core.errors import UnsupportedTask
from strategies.core.results import Progress, Result
from strategies.core.values import BUDGETS, Candidate, Delta, ScoredCandidate, StopReason, Task
from strategies.registry import AnyStrategy
from strategies.voting.selection import leaf

NOTHING = ScoredCandidate(Candidate(0, "", (), "abort"))
"""The answer when a budget ended before the first token: clients expect one."""


@dataclass(slots=True, kw_only=True)
class Session:
    """An admitted request, ready to run.

    `serial` names its branches in the engine: the request's own id may be the caller's, and so not unique. `lease` holds the adapter
    version that generates, `parts` those that the strategy names. `on_outcome` is told
    before anybody else how it ended.
    """

    engine: Engine
    admission: Admission
    request: InferenceRequest
    caller: Caller
    plan: Plan
    strategy: AnyStrategy
    prompts: tuple[Prompt, ...]
    tasks: tuple[Task, ...]
    meter: Meter
    ticket: Ticket
    labels: Labels
    serial: int
    lease: Lease | None
    parts: Mapping[str, Lease]
    trace: SearchTrace
    span: Span
    pace: ThroughputEstimator
    on_outcome: Callable[["Session", Outcome], None]

    @property
    def model(self) -> str:
        """What answers, by the name that was asked for, without the strategy."""
        return str(self.request.adapter or self.labels.model)

    async def run(self, emit: Callable[[int, Delta | Progress], None]) -> Outcome:
        """Run the strategy on every prompt at once; `emit` gets the number of the prompt with each event."""
        with self.meter.timed("search"), client_faults():
            async with _one_error(), asyncio.TaskGroup() as group:
                runs = [group.create_task(self._run(number, emit)) for number in range(len(self.tasks))]
        results = tuple(run.result() for run in runs)
        candidates = [scored.candidate for result in results for scored in result.candidates]
        lengths = [len(candidate.token_ids) for candidate in candidates if candidate.is_complete]
        self.pace.observe(self.ticket.width, self.meter.generated_tokens, self.meter.seconds["search"], lengths)
        outcome = Outcome(results, _worst([result.stop_reason for result in results]))
        model = self.engine.card.architecture_with(None if self.lease is None else self.lease.version)
        # A rule has no plan but to go on while that is worth it, so that none of it is ever left.
        compare(self.meter, model, self.tasks, results, None if self.plan.rule else self.strategy.forecast)
        if self.span.is_recording:
            self.span.set(of_outcome(outcome))
        self.on_outcome(self, outcome)
        return outcome

    async def _run(self, number: int, emit: Callable[[int, Delta | Progress], None]) -> Result:
        def watch(event: Delta | Progress) -> None:
            if isinstance(event, Delta):
                self.meter.seconds.setdefault("first_token", time.monotonic() - self.meter.started)
            else:
                self.trace.take(number, event.nodes)
            emit(number, event)

        with self.span.child("strategy") as span:
            if span.is_recording:
                span.set({"ponder.strategy": self.strategy.name, "ponder.prompt": number, **self._versions()})
            result = await self.strategy(self.tasks[number], self._model(number, span), watch)
            if span.is_recording:
                span.set(of_result(result))
        # Trees were told as they grew; of what is no tree, who was chosen is news.
        nodes = result.nodes or tuple(leaf(scored, result) for scored in result.candidates)
        watch(Progress("", nodes))
        return result if result.chosen else replace(result, chosen=(NOTHING,))

    def _model(self, number: int, span: Span) -> MeteredModel:
        return MeteredModel(
            self.engine,
            self.meter,
            self.admission,
            self.ticket,
            self.prompts[number],
            request_id=f"{self.serial}-{number}",
            seed=self.request.seed,
            cache_salt=self.caller.cache_salt,
            has_deltas=self.request.is_watched,
            lease=self.lease,
            parts=self.parts,
            span=span,
        )

    def _versions(self) -> dict[str, str]:
        """Of the adapters in use, the one that answers first."""
        leases = {"": self.lease, **{f".{name}": lease for name, lease in self.parts.items()}}
        return {f"ponder.adapter{part}": lease.version.id for part, lease in leases.items() if lease is not None}


def _worst(reasons: list[StopReason]) -> StopReason:
    """A spent budget is what the caller must hear of."""
    return next((reason for reason in reasons if reason in BUDGETS), reasons[0])


@contextmanager
def client_faults() -> Iterator[None]:
    """What a strategy refuses is the client's to mend."""
    try:
        yield
    except UnsupportedTask as error:
        raise InvalidRequest(str(error), parameter=f"ponder.{error.parameter}") from error


@asynccontextmanager
async def _one_error() -> AsyncIterator[None]:
    """The prompts of one request fail together: the first error is the request's."""
    try:
        yield
    except BaseExceptionGroup as errors:
        raise first_leaf(errors) from None
