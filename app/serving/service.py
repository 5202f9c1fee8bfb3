"""The use case: from a validated request to an outcome, in the order of CONTRIBUTING's life of a request.

Everything that can refuse a request happens in `open`, before a byte of the answer is sent; `Session.run` then cannot fail for
reasons of the client's. Knows neither HTTP nor vLLM.
"""

import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace

from pydantic import ValidationError

from adapters.errors import UnknownAdapter
from adapters.names import AdapterRef
from adapters.registry import AdapterRegistry
from adapters.residency import Lease
from app.admission import Admission
from app.engine.base import Engine, Prompt
from app.errors import InvalidRequest, NotFound
from app.metering.meter import Meter
from app.request import Caller, InferenceRequest, Limits, Outcome
from app.routing.kinds import detect_kind
from app.routing.planner import AUTO, Planner
from app.routing.policies import Policies
from app.routing.policy import Plan
from app.routing.policy_file import PolicyFile
from app.routing.throughput import ThroughputEstimator
from app.search_traces import SearchTrace, SearchTraces
from app.serving.feedback import Feedback
from app.serving.preview import Preview
from app.serving.session import Session, client_faults
from app.serving.tool_calls import calls_as_json
from app.telemetry.drift import Seen
from app.telemetry.metrics import Metrics, Planned
from app.telemetry.request_metrics import Labels
from app.telemetry.span_attributes import of_plan, request_span
from app.telemetry.spans import NO_SPAN, Span, Tracer
from app.telemetry.verifier_spans import TracedVerifier
from strategies.core.ports import Verifier
from strategies.core.strategy import Forecast, Params
from strategies.core.values import BUDGETS, AnswerKind, Candidate, StopReason, Task
from strategies.registry import STRATEGIES, AnyStrategy, StrategyContext
from strategies.verifiers import is_exact


@dataclass(frozen=True, slots=True)
class _Job:
    """A request that may be admitted. `width`: the most branches that run at once."""

    plan: Plan
    strategy: AnyStrategy
    prompts: tuple[Prompt, ...]
    tasks: tuple[Task, ...]
    width: int


SEAMS = ("presence_penalty", "frequency_penalty", "min_tokens", "stop")
"""Fields of a request that begin anew where an answer is continued from its middle."""


def _source(request: InferenceRequest, plan: Plan) -> str:
    """Who chose the plan."""
    if request.strategy not in (None, AUTO):
        return "caller"
    return "policy" if plan.is_calibrated else "prior"


class Service:
    """Answers requests with one engine.

    Args:
        base: what the model is called in policies that are made for it, whatever its name here is.

    """

    def __init__(
        self,
        engine: Engine,
        *,
        limits: Limits,
        policies: Policies,
        base: str,
        admission: Admission,
        tools: StrategyContext,
        metrics: Metrics,
        traces: SearchTraces,
        feedback: Feedback,
        adapters: AdapterRegistry | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.engine = engine
        self.traces = traces
        self.feedback = feedback
        self._tracer = tracer or Tracer()
        self._pace = ThroughputEstimator()
        self.adapters = adapters
        self.admission = admission
        self.metrics = metrics
        self._limits = limits
        self.policies = policies
        self._planner = Planner(policies, engine.card, base, adapters)
        self._tools = tools
        self._serial = itertools.count()

    def resolve(self, model: str) -> tuple[AdapterRef | None, str | None]:
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

    def _adapter(self, name: str) -> AdapterRef:
        """One that is there at this moment, or `UnknownAdapter`."""
        ref = AdapterRef.parse(name)
        if self.adapters is None:
            raise UnknownAdapter(f"There is no adapter `{name}`: this server holds none.", parameter="model")
        self.adapters.find(ref)
        return ref

    @asynccontextmanager
    async def open(self, request: InferenceRequest, caller: Caller) -> AsyncIterator[Session]:
        """Plan, render and admit; everything is released when the block ends, however it ends."""
        meter = Meter(self.engine.card.architecture, request.budget.capped(self._limits.budget))
        with request_span(self._tracer, request, self.engine.card.name, meter) as span:
            async with self._admitted(request, caller, meter, span) as session:
                yield session

    @asynccontextmanager
    async def _admitted(self, request: InferenceRequest, caller: Caller, meter: Meter, span: Span) -> AsyncIterator[Session]:
        job = await self._prepare(request, meter, span)
        strategy = job.strategy
        labels = Labels(strategy.name, self.engine.card.name, request.adapter.name if request.adapter else "")
        with self.metrics.refusals(), self.admission.admit(caller.key, job.width) as ticket:
            async with self._leases(request, strategy.params, meter) as (lease, parts):
                name = str(request.adapter or self.engine.card.name)
                plan = job.plan
                trace = SearchTrace(
                    request.id, name, strategy.name, bin=plan.bin, difficulty=plan.difficulty, adapter=labels.adapter,
                    otel_trace_id=span.trace_id,
                )  # fmt: skip
                planned = Planned(_source(request, plan), str(plan.bin), request.effort.value)
                with self.metrics.request(labels, planned, meter, trace), self.traces.recorded(caller.key, trace):
                    yield Session(
                        engine=self.engine, admission=self.admission, request=request, caller=caller, plan=plan,
                        strategy=strategy, prompts=job.prompts, tasks=job.tasks, meter=meter, ticket=ticket, labels=labels,
                        serial=next(self._serial), lease=lease, parts=parts, trace=trace, span=span, pace=self._pace,
                        on_outcome=self._look_back,
                    )  # fmt: skip

    def _look_back(self, session: Session, outcome: Outcome) -> None:
        """Book what an answered request showed of how well its policy fits; of several prompts the first."""
        plan, result = session.plan, outcome.results[0]
        has_proof = is_exact(getattr(session.strategy.params, "verifier", None)) and result.stop_reason not in BUDGETS
        seen = Seen(
            before=plan.difficulty,
            after=None if plan.rule is None else plan.rule.difficulty_after_wave,
            bin=plan.bin,
            agreement=result.agreement,
            is_right=result.stop_reason is StopReason.VERIFIED if has_proof else None,
        )
        self.metrics.show(session.labels, seen)
        if any(one.notes for one in outcome.results):  # strategies note what their verifiers could not do, and nothing else
            self.metrics.fall_back(session.labels)
        self.feedback.remember(session.trace, session.request, session.tasks[0].kind, result.chosen[0])

    async def preview(self, request: InferenceRequest) -> Preview:
        """What `open` would begin, and what it is expected to take; nothing is generated, and nothing admitted."""
        meter = Meter(self.engine.card.architecture, request.budget.capped(self._limits.budget))
        job = await self._prepare(request, meter, NO_SPAN)
        prompt_tokens = sum(len(prompt.token_ids) for prompt in job.prompts)
        answer_tokens = self._pace.answer_tokens(min(prompt.max_tokens for prompt in job.prompts))
        forecasts = [
            job.plan.expected_forecast(answer_tokens) or job.strategy.forecast(task, answer_tokens) for task in job.tasks
        ]
        forecast = Forecast(
            sum(one.branches for one in forecasts), sum(one.tokens for one in forecasts),
            max(one.rounds for one in forecasts), sum(one.verdicts for one in forecasts),
        )  # fmt: skip
        model = self.engine.card.architecture
        prediction = self._pace.predict(forecast, job.width, prompt_tokens // len(job.prompts), answer_tokens, model)
        return Preview(
            model=str(request.adapter or self.engine.card.name), strategy=job.strategy.name,
            parameters=job.strategy.params.model_dump(mode="json"), why=job.plan.why, is_calibrated=job.plan.is_calibrated,
            difficulty=job.plan.difficulty, alternatives=job.plan.alternatives,
            kind=job.tasks[0].kind, prompt_tokens=prompt_tokens, branches=forecast.branches, rounds=forecast.rounds,
            prediction=prediction, budget=meter.budget,
        )  # fmt: skip

    async def _prepare(self, request: InferenceRequest, meter: Meter, span: Span) -> _Job:
        """Everything that can be refused for reasons of the request's own is refused here."""
        if request.num_chars > self._limits.max_prompt_chars:
            raise InvalidRequest(
                f"The prompt has more than {self._limits.max_prompt_chars} characters.",
                parameter="messages" if request.is_chat else "prompt",
            )
        with meter.timed("route"), span.child("difficulty") as routed:
            kind = request.kind or detect_kind(
                request.question, response_format=request.response_format, has_tools=request.has_tools
            )
            plan = self._planner.plan(request, kind, self.admission.load)
            strategy = self._strategy(request, plan, TracedVerifier if span.is_recording else self._tools.watched)
            if routed.is_recording:
                routed.set(of_plan(plan, kind))
                span.set({"ponder.strategy": plan.strategy})
        with meter.timed("render"):
            prompts = await self._render(request, plan, strategy)
            if span.is_recording:
                span.set({"gen_ai.usage.input_tokens": sum(len(prompt.token_ids) for prompt in prompts)})
        tasks = tuple(self._task(request, prompt, kind) for prompt in prompts)
        width = strategy.width(request.num_choices) * len(tasks)
        with client_faults():
            for task in tasks:
                strategy.check(task)
        return _Job(plan, strategy, prompts, tasks, width)

    @asynccontextmanager
    async def _leases(
        self, request: InferenceRequest, params: Params, meter: Meter
    ) -> AsyncIterator[tuple[Lease | None, Mapping[str, Lease]]]:
        """Hold the adapter that generates and those that the strategy uses, each at one version, for the length of the block."""
        try:
            parts = {name: self._adapter(name) for name in params.adapters}
        except UnknownAdapter as error:
            raise InvalidRequest(str(error), parameter="ponder") from error
        refs = [*([request.adapter] if request.adapter else []), *parts.values()]
        if self.adapters is None or not refs:
            yield None, {}
            return
        async with AsyncExitStack() as stack:
            with meter.timed("adapter"):
                leases = await stack.enter_async_context(self.adapters.lease(refs, patience=meter.budget.seconds))
            lease, others = (leases[0], leases[1:]) if request.adapter else (None, leases)
            yield lease, dict(zip(parts, others, strict=True))

    def check_policy(self, name: str, file: PolicyFile) -> None:
        """Raise `NotFound` where nothing of that name is served, `InvalidRequest` where the policy was made for something else."""
        adapter, strategy = self.resolve(name)
        if strategy is not None:
            raise NotFound(f"`{name}` is no model.", parameter="model")
        if adapter is not None and adapter.pin is not None:
            raise NotFound(
                f"`{name}` is one version: a policy is for a name, and says itself which version it holds for.",
                parameter="model",
            )
        if (mismatch := self._planner.mismatch(adapter, file)) is not None:
            raise InvalidRequest(f"This policy is not for `{name}`: {mismatch}.", parameter="model")

    def _strategy(self, request: InferenceRequest, plan: Plan, watched: Callable[[Verifier], Verifier]) -> AnyStrategy:
        spec = STRATEGIES[plan.strategy]
        try:
            params = spec.Params.model_validate(dict(plan.params))
        except ValidationError as error:
            first = error.errors()[0]
            named = itertools.takewhile(lambda part: part.isidentifier() and part.islower(), map(str, first["loc"]))
            where = ".".join(["ponder", *named])  # without the types that pydantic tried where a field may be one of several
            raise InvalidRequest(f"{spec.name}: {where}: {first['msg']}", parameter=where) from error
        if spec.temperature is not None and request.temperature == 0:
            raise InvalidRequest(
                f"{spec.name} compares samples, and at temperature 0 they are all the same.", parameter="temperature"
            )
        for field in ("presence_penalty", "frequency_penalty"):
            if spec.is_stepwise and any(body.get(field) for body in request.bodies):
                raise InvalidRequest(
                    f"{spec.name} grows an answer in steps, and {field} would begin anew with each.", parameter=field
                )
        strategy = spec(params, replace(self._tools, rule=plan.rule, watched=watched))
        if (width := strategy.width(request.num_choices)) > self._limits.max_n:
            fields = ("n", "workers", "breadth", "chains")
            field = next((f"ponder.{field}" for field in fields if field in spec.Params.model_fields), "n")
            raise InvalidRequest(
                f"This server runs at most {self._limits.max_n} branches at once for a request, and this would be {width}.",
                parameter=field,
            )
        return strategy

    async def _render(self, request: InferenceRequest, plan: Plan, spec: AnyStrategy) -> tuple[Prompt, ...]:
        temperature = spec.temperature if plan.temperature is None else plan.temperature
        defaults = {} if temperature is None else {"temperature": temperature}
        render = self.engine.render_chat if request.is_chat else self.engine.render_completion
        return tuple([await render({**defaults, **body}) for body in request.bodies])

    def _task(self, request: InferenceRequest, prompt: Prompt, kind: AnswerKind) -> Task:
        def read(candidate: Candidate) -> str:
            message = self.engine.parser(prompt).parse(candidate.text, candidate.token_ids)
            return calls_as_json(message) or message.get("content") or ""

        return Task(
            question=request.question,
            prefix=prompt.token_ids,
            kind=kind,
            num_choices=request.num_choices,
            num_logprobs=request.num_logprobs,
            max_tokens=prompt.max_tokens,
            seed=request.seed,
            end_tokens=self.engine.card.end_tokens,
            is_constrained=prompt.is_constrained,
            is_seamless=not any(body.get(field) for body in request.bodies for field in SEAMS),
            read=read if request.is_chat else lambda candidate: candidate.text,
            encode=self.engine.encode,
            follow_up=self.engine.follow_up,
        )
