"""One request from its parsed form to its answer: resolve, plan, render, admit, lease, run, account.

Each stage is one module of this package and returns what the next stage needs. Everything that can refuse a request happens
before `Service.open` yields, so before the first byte of the answer is sent. This module depends neither on HTTP nor on vLLM.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from adapters.registry import AdapterRegistry
from app.admission import Admission
from app.engine.base import Engine
from app.errors import InvalidRequest
from app.images.loading import ImageLoader
from app.metering.meter import Meter
from app.request import Caller, InferenceRequest
from app.routing.throughput import Models
from app.serving.accounting import Observers, open_account
from app.serving.guests import FindModel, admit_guests, invite
from app.serving.leasing import WantedAdapters, find_verifiers
from app.serving.model_names import ModelNames
from app.serving.planning import PlannedRequest, Planning
from app.serving.preview import Preview, predict
from app.serving.rendering import RenderedRequest, check_modalities, render
from app.serving.session import ModelSession
from app.shared.alone import NotShared
from app.telemetry.span_attributes import request_span
from app.telemetry.spans import NO_SPAN, Span
from strategies.core.values import AnswerKind

NUM_TOKENS_READ = 512
"""The tokens at the end of a prompt of token ids whose text tells its difficulty. To decode them takes less than a millisecond."""


class Service:
    """Answers requests with one engine.

    Attributes:
        find_model: returns the service of another model, which may be this one.

    Args:
        engine: generates; the code that made the engine also starts and closes it.
        planning: the planning stage, with the server's policies, limits and strategies.
        admission: limits how many branches run and wait.
        observers: what records requests.
        images: loads the images of conversations; None for a service that reads none.
        adapters: the registry of adapters, None for a server that holds none.
        shared: what this front end shares with others.

    """

    def __init__(
        self,
        engine: Engine,
        *,
        planning: Planning,
        admission: Admission,
        observers: Observers,
        images: ImageLoader | None = None,
        adapters: AdapterRegistry | None = None,
        shared: NotShared | None = None,
    ) -> None:
        self.engine = engine
        self.planning = planning
        self.admission = admission
        self.observers = observers
        self.images = images
        self.adapters = adapters
        self.shared = NotShared() if shared is None else shared
        self.names = ModelNames(engine.card.name, adapters, planning.registries.strategies.names())
        self.find_model: FindModel = self._find_own

    @property
    def reader(self) -> "Service":
        """The service whose tokenizer and context tell whether a prompt fits: this one."""
        return self

    def _find_own(self, name: str) -> "Service":
        """Return this service for a name of its own; `Pools` replaces this by a search of all services."""
        self.names.resolve(name)
        return self

    @asynccontextmanager
    async def open(self, request: InferenceRequest, caller: Caller) -> AsyncIterator[ModelSession]:
        """Take a request through all stages before its run, and give the session, whose `run` runs it. The block's end releases everything.

        The model's name was resolved before, by `ModelNames.resolve`.

        Raises:
            InvalidRequest: the request cannot be honoured.
            Busy: the server, or this caller, has too many branches that run or wait.
            AdapterError: an adapter cannot be served at all, or cannot be served now.

        """
        request = replace(request, owner=caller.owner)
        model, meter, observers = self.engine.card.name, self._meter(request), self.observers
        with request_span(observers.tracer, request, model, meter) as span:
            planned = self._plan(request, meter, span)
            template = self.names.template_of(request.adapter)
            rendered = await self._render(request, planned, meter, span, template)
            with observers.metrics.refusals(), self.admission.admit(caller, planned.width) as admitted:
                params = planned.strategy.params
                wanted = WantedAdapters(request.adapter, params.adapters)
                invited = invite(self.find_model, params.models)
                async with admit_guests(self, invited, admitted, wanted, meter) as (leases, guests):
                    leased = None if leases.generator is None else leases.generator.version.chat_template
                    if leased != template:  # the adapter was replaced while the request waited
                        rendered = await self._render(request, planned, meter, span, leased)
                    with open_account(
                        observers, request, planned, model=model, caller=caller, meter=meter, span=span
                    ) as account:
                        yield ModelSession(self.engine, request, planned, rendered, admitted, leases, account, guests)

    async def preview(self, request: InferenceRequest) -> Preview:
        """Return what `open` would run and what it is expected to take. Nothing is generated, admitted or leased."""
        meter = self._meter(request)
        planned = self._plan(request, meter, NO_SPAN)
        invited = invite(self.find_model, planned.strategy.params.models)
        find_verifiers(self.names, planned.strategy.params.adapters)
        rendered = await self._render(request, planned, meter, NO_SPAN, self.names.template_of(request.adapter))
        architecture = self.engine.card.architecture.with_images(rendered.prompts[0].images)
        judge = next((one.host.engine.card.architecture for one in invited.values()), None)
        prediction = predict(planned, rendered, self.observers.throughput, Models(architecture, judge))
        return Preview(str(request.adapter or self.engine.card.name), planned, rendered.num_tokens, prediction, meter.budget)

    @asynccontextmanager
    async def with_images(self, body: Mapping[str, Any], modalities: frozenset[str]) -> AsyncIterator[Mapping[str, Any]]:
        """Give the body of a chat with its images decoded, for the block. Raises `InvalidRequest`, also for what the model cannot read.

        `modalities` says what is in it besides text.
        """
        card = self.engine.card
        check_modalities(card, modalities)
        if self.images is None or not modalities:
            yield body
            return
        async with self.images.loaded(body, card.max_images) as loaded:
            yield loaded

    async def _render(
        self, request: InferenceRequest, planned: PlannedRequest, meter: Meter, span: Span, template: str | None
    ) -> RenderedRequest:
        """Render the request. Its images are decoded for it, and dropped."""
        async with AsyncExitStack() as loaded:
            if request.modalities:
                with meter.timed("render"):
                    [body] = request.bodies  # of a chat
                    seen = await loaded.enter_async_context(self.with_images(body, request.modalities))
                request = replace(request, bodies=(seen,))
            return await render(self.engine, request, planned, meter, span, template=template)

    def _plan(self, request: InferenceRequest, meter: Meter, span: Span) -> PlannedRequest:
        """Return the plan, or raise `InvalidRequest` also where no waiting would get it admitted."""
        max_width = self.admission.max_width
        planned = self.planning.plan(self._with_question(request), self.admission.load, meter, span, max_width=max_width)
        if planned.width > max_width:
            message = (
                f"This server admits at most {max_width} branches of one key (`max_branches_per_key`), "
                f"and this request needs {planned.width}."
            )
            raise InvalidRequest(message, parameter=planned.width_parameter)
        return planned

    def _with_question(self, request: InferenceRequest) -> InferenceRequest:
        """Return the request with the text of its token ids, if the caller says that their answer can be right or wrong."""
        prompt = request.bodies[0].get("prompt")
        if request.question or request.kind in (None, AnswerKind.OPEN) or not isinstance(prompt, list):
            return request
        return replace(request, question=self.engine.decode(prompt[-NUM_TOKENS_READ:]))

    def _meter(self, request: InferenceRequest) -> Meter:
        """Return a meter with the tighter of the caller's and the operator's budget."""
        card = self.engine.card
        return Meter(card.architecture, request.budget.capped(self.planning.limits.budget), card.speculation)
