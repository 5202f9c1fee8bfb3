"""The use case: from a validated request to an outcome, in the order of CONTRIBUTING's life of a request.

Everything that can refuse a request happens in `open`, before a byte of the answer is sent; `Session.run` then cannot fail for
reasons of the client's. Knows neither HTTP nor vLLM.
"""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from adapters.errors import UnknownAdapter
from adapters.registry import Ref, Registry
from adapters.residency import Lease
from app.admission import Admission, Ticket
from app.asks import Ask, Caller, Limits, Outcome
from app.engine.base import Engine, Prompt
from app.errors import InvalidRequest, NotFound
from app.metering.handle import MeteredModel, first_leaf
from app.metering.meter import Meter
from app.metering.metrics import Labels, Metrics
from app.routing.kinds import detect_kind
from app.routing.policy import Plan, Policy
from strategies.base import AnswerKind, Candidate, Delta, Progress, Result, StopReason, Task, UnsupportedTask
from strategies.registry import STRATEGIES, AnyStrategy, Tools
from strategies.strategy import Params

AUTO = "auto"


class Service:
    """Answers requests with one engine."""

    def __init__(
        self,
        engine: Engine,
        *,
        limits: Limits,
        policy: Policy,
        admission: Admission,
        tools: Tools,
        metrics: Metrics,
        adapters: Registry | None = None,
    ) -> None:
        self.engine = engine
        self.adapters = adapters
        self.admission = admission
        self.metrics = metrics
        self._limits = limits
        self._policy = policy
        self._tools = tools
        self._serial = itertools.count()

    def resolve(self, model: str) -> tuple[Ref | None, str | None]:
        """The adapter (None: the base model) and the strategy that a model name stands for; raises `NotFound`."""
        name, at, strategy = model.rpartition("@")
        if not at:
            name, strategy = model, ""
        if not at or strategy in (AUTO, *STRATEGIES.names()):
            if name == self.engine.card.name:
                return None, strategy or None
            with suppress(UnknownAdapter):
                return self._adapter(name), strategy or None
        raise NotFound(f"The model `{model}` does not exist.", parameter="model")

    def _adapter(self, name: str) -> Ref:
        """One that is there at this moment, or `UnknownAdapter`."""
        ref = Ref.parse(name)
        if self.adapters is None:
            raise UnknownAdapter(f"There is no adapter `{name}`: this server holds none.", parameter="model")
        self.adapters.find(ref)
        return ref

    @asynccontextmanager
    async def open(self, ask: Ask, caller: Caller) -> AsyncIterator["Session"]:
        """Plan, render and admit; everything is released when the block ends, however it ends."""
        meter = Meter(self.engine.card.architecture, ask.budget.capped(self._limits.budget))
        if ask.num_chars > self._limits.max_prompt_chars:
            raise InvalidRequest(
                f"The prompt has more than {self._limits.max_prompt_chars} characters.",
                parameter="messages" if ask.is_chat else "prompt",
            )
        with meter.timed("route"):
            kind = ask.kind or detect_kind(ask.question, response_format=ask.response_format, has_tools=ask.has_tools)
            plan = self._plan(ask, kind)
            spec, params = self._parameters(ask, plan)
        with meter.timed("render"):
            prompts = await self._render(ask, spec)
        tasks = tuple(self._task(ask, prompt, kind) for prompt in prompts)
        width = spec.width(params, ask.num_choices) * len(tasks)
        with _client_faults():
            for task in tasks:
                spec.check(params, task)
        labels = Labels(spec.name, self.engine.card.name, ask.adapter.name if ask.adapter else "")
        with self.metrics.refusals(), self.admission.admit(caller.key, width) as ticket:
            async with self._leases(ask, params, meter) as (lease, parts):
                with self.metrics.request(labels, meter):
                    yield Session(
                        self, ask, caller, plan, spec, params, prompts, tasks, meter, ticket, labels, next(self._serial),
                        lease, parts,
                    )  # fmt: skip

    @asynccontextmanager
    async def _leases(self, ask: Ask, params: Params, meter: Meter) -> AsyncIterator[tuple[Lease | None, Mapping[str, Lease]]]:
        """Hold the adapter that generates and those that the strategy uses, each at one version, for the length of the block."""
        try:
            parts = {name: self._adapter(name) for name in params.adapters}
        except UnknownAdapter as error:
            raise InvalidRequest(str(error), parameter="ponder") from error
        refs = [*([ask.adapter] if ask.adapter else []), *parts.values()]
        if self.adapters is None or not refs:
            yield None, {}
            return
        async with AsyncExitStack() as stack:
            with meter.timed("adapter"):
                leases = await stack.enter_async_context(self.adapters.lease(refs, patience=meter.budget.seconds))
            lease, others = (leases[0], leases[1:]) if ask.adapter else (None, leases)
            yield lease, dict(zip(parts, others, strict=True))

    def _plan(self, ask: Ask, kind: AnswerKind) -> Plan:
        if ask.strategy not in (None, AUTO):
            return Plan(ask.strategy, dict(ask.parameters), why="named by the caller", is_calibrated=False)
        if ask.parameters:
            name = next(iter(ask.parameters))
            raise InvalidRequest(f"`{name}` is a parameter of a strategy, but none is named.", parameter=f"ponder.{name}")
        if ask.temperature == 0:
            return Plan("direct", {}, why="temperature 0: every sample would be the same", is_calibrated=False)
        if ask.num_choices > 1:
            return Plan("direct", {}, why="several answers are wanted, not one", is_calibrated=False)
        return self._policy.plan(kind, ask.effort, load=self.admission.load)

    def _parameters(self, ask: Ask, plan: Plan) -> tuple[type[AnyStrategy], Params]:
        spec = STRATEGIES[plan.strategy]
        try:
            params = spec.Params.model_validate(dict(plan.params))
        except ValidationError as error:
            first = error.errors()[0]
            named = itertools.takewhile(lambda part: part.isidentifier() and part.islower(), map(str, first["loc"]))
            where = ".".join(["ponder", *named])  # without the types that pydantic tried where a field may be one of several
            raise InvalidRequest(f"{spec.name}: {where}: {first['msg']}", parameter=where) from error
        if spec.temperature is not None and ask.temperature == 0:
            raise InvalidRequest(
                f"{spec.name} compares samples, and at temperature 0 they are all the same.", parameter="temperature"
            )
        if spec.width(params, ask.num_choices) > self._limits.max_n:
            raise InvalidRequest(
                f"This server draws at most {self._limits.max_n} candidates for a request.",
                parameter="ponder.n" if spec.temperature is not None else "n",
            )
        return spec, params

    async def _render(self, ask: Ask, spec: type[AnyStrategy]) -> tuple[Prompt, ...]:
        defaults = {} if spec.temperature is None else {"temperature": spec.temperature}
        render = self.engine.render_chat if ask.is_chat else self.engine.render_completion
        return tuple([await render({**defaults, **body}) for body in ask.bodies])

    def _task(self, ask: Ask, prompt: Prompt, kind: AnswerKind) -> Task:
        def read(candidate: Candidate) -> str:
            message = self.engine.parser(prompt).parse(candidate.text, candidate.token_ids)
            return _calls_as_json(message) or message.get("content") or ""

        return Task(
            question=ask.question,
            prefix=prompt.token_ids,
            kind=kind,
            num_choices=ask.num_choices,
            num_logprobs=ask.num_logprobs,
            read=read if ask.is_chat else lambda candidate: candidate.text,
            encode=self.engine.encode,
        )

    @property
    def tools(self) -> Tools:
        """What strategies are built with."""
        return self._tools


@dataclass(slots=True)
class Session:
    """An admitted request, ready to run.

    `serial` names its branches in the engine: the request's own id may be the caller's, and so not unique. `lease` holds the adapter
    version that generates, `parts` those that the strategy names.
    """

    service: Service
    ask: Ask
    caller: Caller
    plan: Plan
    spec: type[AnyStrategy]
    params: Params
    prompts: tuple[Prompt, ...]
    tasks: tuple[Task, ...]
    meter: Meter
    ticket: Ticket
    labels: Labels
    serial: int
    lease: Lease | None
    parts: Mapping[str, Lease]

    @property
    def model(self) -> str:
        """What answers, by the name that was asked for, without the strategy."""
        return str(self.ask.adapter or self.labels.model)

    async def run(self, emit: Callable[[int, Delta | Progress], None]) -> Outcome:
        """Run the strategy on every prompt at once; `emit` gets the number of the prompt with each event."""
        with self.meter.timed("search"), _client_faults():
            async with _one_error(), asyncio.TaskGroup() as group:
                runs = [group.create_task(self._run(number, emit)) for number in range(len(self.tasks))]
        results = tuple(run.result() for run in runs)
        return Outcome(results, _worst([result.stop_reason for result in results]))

    async def _run(self, number: int, emit: Callable[[int, Delta | Progress], None]) -> Result:
        def watch(event: Delta | Progress) -> None:
            if isinstance(event, Delta):
                self.meter.seconds.setdefault("first_token", time.monotonic() - self.meter.started)
            emit(number, event)

        model = MeteredModel(
            self.service.engine,
            self.meter,
            self.service.admission,
            self.ticket,
            self.prompts[number],
            request_id=f"{self.serial}-{number}",
            seed=self.ask.seed,
            cache_salt=self.caller.cache_salt,
            has_deltas=self.ask.is_watched,
            lease=self.lease,
            parts=self.parts,
        )
        strategy = self.spec(self.params, self.service.tools)
        return await strategy(self.tasks[number], model, watch)


def _worst(reasons: list[StopReason]) -> StopReason:
    """A spent budget is what the caller must hear of."""
    calm = (StopReason.COMPLETED, StopReason.SETTLED)
    return next((reason for reason in reasons if reason not in calm), reasons[0])


def _calls_as_json(message: Mapping[str, Any]) -> str | None:
    """Tool calls as text that two candidates can agree on: names and parsed arguments, without ids."""
    calls = message.get("tool_calls")
    if not calls:
        return None
    return json.dumps([[call["function"]["name"], _parsed(call["function"]["arguments"])] for call in calls], sort_keys=True)


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


@contextmanager
def _client_faults() -> Iterator[None]:
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
