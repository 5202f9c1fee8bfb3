"""The use case: from a validated request to an outcome, in the order of CONTRIBUTING's life of a request.

Everything that can refuse a request happens in `open`, before a byte of the answer is sent; `Session.run` then cannot fail for
reasons of the client's. Knows neither HTTP nor vLLM.
"""

import itertools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from adapters.errors import UnknownAdapter
from adapters.names import Ref
from adapters.registry import Registry
from adapters.residency import Lease
from app.admission import Admission
from app.asks import Ask, Caller, Limits, Preview
from app.engine.base import Engine, Prompt
from app.errors import InvalidRequest, NotFound
from app.metering.meter import Meter
from app.metering.metrics import Labels, Metrics
from app.routing.kinds import detect_kind
from app.routing.pace import Pace
from app.routing.policy import Plan, Policy
from app.session import Session, client_faults
from app.traces import Trace, Traces
from strategies.base import AnswerKind, Candidate, Task
from strategies.registry import STRATEGIES, AnyStrategy, Tools
from strategies.strategy import Forecast, Params

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class _Job:
    """A request that may be admitted. `width`: the most branches that run at once."""

    plan: Plan
    strategy: AnyStrategy
    prompts: tuple[Prompt, ...]
    tasks: tuple[Task, ...]
    width: int


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
        traces: Traces,
        adapters: Registry | None = None,
    ) -> None:
        self.engine = engine
        self.traces = traces
        self._pace = Pace()
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
    async def open(self, ask: Ask, caller: Caller) -> AsyncIterator[Session]:
        """Plan, render and admit; everything is released when the block ends, however it ends."""
        meter = Meter(self.engine.card.architecture, ask.budget.capped(self._limits.budget))
        job = await self._prepare(ask, meter)
        strategy = job.strategy
        labels = Labels(strategy.name, self.engine.card.name, ask.adapter.name if ask.adapter else "")
        with self.metrics.refusals(), self.admission.admit(caller.key, job.width) as ticket:
            async with self._leases(ask, strategy.params, meter) as (lease, parts):
                trace = Trace(ask.id, str(ask.adapter or self.engine.card.name), strategy.name)
                with self.metrics.request(labels, meter, trace), self.traces.recorded(caller.key, trace):
                    yield Session(
                        engine=self.engine, admission=self.admission, ask=ask, caller=caller, plan=job.plan,
                        strategy=strategy, prompts=job.prompts, tasks=job.tasks, meter=meter, ticket=ticket, labels=labels,
                        serial=next(self._serial), lease=lease, parts=parts, trace=trace, pace=self._pace,
                    )  # fmt: skip

    async def preview(self, ask: Ask) -> Preview:
        """What `open` would begin, and what it is expected to take; nothing is generated, and nothing admitted."""
        meter = Meter(self.engine.card.architecture, ask.budget.capped(self._limits.budget))
        job = await self._prepare(ask, meter)
        prompt_tokens = sum(len(prompt.token_ids) for prompt in job.prompts)
        answer_tokens = self._pace.answer_tokens(min(prompt.max_tokens for prompt in job.prompts))
        forecasts = [job.strategy.forecast(task, answer_tokens) for task in job.tasks]
        forecast = Forecast(
            sum(one.branches for one in forecasts), sum(one.tokens for one in forecasts),
            max(one.rounds for one in forecasts), sum(one.verdicts for one in forecasts),
        )  # fmt: skip
        model = self.engine.card.architecture
        prediction = self._pace.predict(forecast, job.width, prompt_tokens // len(job.prompts), answer_tokens, model)
        return Preview(
            model=str(ask.adapter or self.engine.card.name), strategy=job.strategy.name,
            parameters=job.strategy.params.model_dump(mode="json"), why=job.plan.why, is_calibrated=job.plan.is_calibrated,
            kind=job.tasks[0].kind, prompt_tokens=prompt_tokens, branches=forecast.branches, rounds=forecast.rounds,
            prediction=prediction, budget=meter.budget,
        )  # fmt: skip

    async def _prepare(self, ask: Ask, meter: Meter) -> _Job:
        """Everything that can be refused for reasons of the request's own is refused here."""
        if ask.num_chars > self._limits.max_prompt_chars:
            raise InvalidRequest(
                f"The prompt has more than {self._limits.max_prompt_chars} characters.",
                parameter="messages" if ask.is_chat else "prompt",
            )
        with meter.timed("route"):
            kind = ask.kind or detect_kind(ask.question, response_format=ask.response_format, has_tools=ask.has_tools)
            plan = self._plan(ask, kind)
            strategy = self._strategy(ask, plan)
        with meter.timed("render"):
            prompts = await self._render(ask, strategy)
        tasks = tuple(self._task(ask, prompt, kind) for prompt in prompts)
        width = strategy.width(ask.num_choices) * len(tasks)
        with client_faults():
            for task in tasks:
                strategy.check(task)
        return _Job(plan, strategy, prompts, tasks, width)

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

    def _strategy(self, ask: Ask, plan: Plan) -> AnyStrategy:
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
        for field in ("presence_penalty", "frequency_penalty"):
            if spec.is_stepwise and any(body.get(field) for body in ask.bodies):
                raise InvalidRequest(
                    f"{spec.name} grows an answer in steps, and {field} would begin anew with each.", parameter=field
                )
        strategy = spec(params, self._tools)
        if (width := strategy.width(ask.num_choices)) > self._limits.max_n:
            fields = ("n", "workers", "breadth", "chains")
            field = next((f"ponder.{field}" for field in fields if field in spec.Params.model_fields), "n")
            raise InvalidRequest(
                f"This server runs at most {self._limits.max_n} branches at once for a request, and this would be {width}.",
                parameter=field,
            )
        return strategy

    async def _render(self, ask: Ask, spec: AnyStrategy) -> tuple[Prompt, ...]:
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
            max_tokens=prompt.max_tokens,
            seed=ask.seed,
            end_tokens=self.engine.card.end_tokens,
            is_constrained=prompt.is_constrained,
            read=read if ask.is_chat else lambda candidate: candidate.text,
            encode=self.engine.encode,
            follow_up=self.engine.follow_up,
        )


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
