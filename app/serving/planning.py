"""The planning stage: decides how a request is answered, and refuses what its strategy or the server does not allow."""

import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from app.errors import InvalidRequest
from app.faults import describe
from app.metering.meter import Meter
from app.request import InferenceRequest, Limits
from app.routing.kinds import detect_kind
from app.routing.planner import AUTO, Planner
from app.routing.policy import Plan
from app.serving.traced_verifier import TracedVerifier
from app.telemetry.spans import Attributes, Span, Value
from strategies.core.errors import UnsupportedTask
from strategies.core.values import AnswerKind
from strategies.core.verifier import StrategyContext
from strategies.registry import BUILT_IN, AnyStrategy, Registries

WIDTH_PARAMETERS = ("n", "workers", "breadth", "chains")
"""Parameters of strategies that set how many branches run at once."""


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """What was decided for a request.

    Attributes:
        kind: the kind of the answer, which decides how candidates are compared.
        plan: the strategy's name and parameters, and the reason for them.
        strategy: the plan's strategy, ready to run.
        width: the most branches that run at once, for all prompts of the request together.

    """

    kind: AnswerKind
    plan: Plan
    strategy: AnyStrategy
    width: int

    @property
    def width_parameter(self) -> str:
        """The field of a request that sets the width."""
        return _width_parameter(type(self.strategy))

    def span_attributes(self) -> Attributes:
        """Return the plan and the difficulty as attributes of a span."""
        attributes: dict[str, Value] = {
            "ponder.strategy": self.plan.strategy,
            "ponder.answer_kind": self.kind.value,
            "ponder.plan.why": self.plan.why,
            "ponder.plan.calibrated": self.plan.is_calibrated,
        }
        if self.plan.difficulty is not None:
            attributes |= {"ponder.difficulty": self.plan.difficulty.probability, "ponder.bin": self.plan.bin}
        return attributes


class Planning:
    """Chooses the plan of each request, and checks it against the server's limits.

    Args:
        planner: chooses the plan.
        context: the dependencies that each strategy is built with.
        limits: what the operator allows one request.
        registries: the strategies and verifiers of this server.

    """

    def __init__(self, planner: Planner, context: StrategyContext, limits: Limits, registries: Registries = BUILT_IN) -> None:
        self.planner = planner
        self.registries = registries
        self.limits = limits
        self._context = context

    def plan(
        self, request: InferenceRequest, load: float, meter: Meter, span: Span, *, max_width: float = math.inf
    ) -> PlannedRequest:
        """Return the plan of a request, or raise `InvalidRequest`.

        Args:
            request: what the caller sent.
            load: the share of admitted branches, 0 to 1.
            meter: of the request.
            span: of the request.
            max_width: the most branches that can be admitted. A plan that the caller has not chosen is made to fit; another one is not.

        """
        self._check_length(request)
        with meter.timed("route"), span.child("difficulty") as routing:
            kind = kind_of(request)
            plan = self.planner.plan(request, kind, load)
            watched = TracedVerifier if span.is_recording else self._context.watched
            context = replace(self._context, rule=plan.rule, exits=plan.exits, watched=watched)
            if request.strategy in (None, AUTO):
                plan = self._narrowed(request, plan, max_width)
            strategy = self._strategy(request, plan, context)
            width = strategy.width(request.num_choices) * len(request.bodies)
            planned = PlannedRequest(kind, plan, strategy, width)
            if routing.is_recording:
                routing.set(planned.span_attributes())
                span.set({"ponder.strategy": plan.strategy})
        return planned

    def _narrowed(self, request: InferenceRequest, plan: Plan, max_width: float) -> Plan:
        """Return a plan that draws fewer answers where the server cannot run as many branches at once."""
        strategy_type, most = self.registries.strategies[plan.strategy], min(self.limits.max_n, max_width / len(request.bodies))
        params: dict[str, Any] = dict(plan.params)
        while params.get("n", 1) > 1 and _built(strategy_type, params, self._context).width(1) > most:
            params["n"] //= 2
        if params == plan.params:
            return plan
        why = f"{plan.why}; n = {params['n']}, since this server runs no more branches at once"
        return replace(plan, params=params, why=why if request.risk is None else f"{why}; the risk is not held", expected=None)

    def _check_length(self, request: InferenceRequest) -> None:
        if request.num_chars > self.limits.max_prompt_chars:
            raise InvalidRequest(
                f"The prompt has more than {self.limits.max_prompt_chars} characters.",
                parameter="messages" if request.is_chat else "prompt",
            )

    def _strategy(self, request: InferenceRequest, plan: Plan, context: StrategyContext) -> AnyStrategy:
        strategy_type = self.registries.strategies[plan.strategy]
        strategy = _built(strategy_type, plan.params, context)
        _check_sampling(request, strategy_type)
        if (width := strategy.width(request.num_choices)) > self.limits.max_n:
            raise InvalidRequest(
                f"This server runs at most {self.limits.max_n} branches at once for a prompt, and this request needs {width}.",
                parameter=_width_parameter(strategy_type),
            )
        return strategy


def kind_of(request: InferenceRequest) -> AnswerKind:
    """Return the kind of answer that a request wants: the one that it names, else the one that its text asks for."""
    return request.kind or detect_kind(request.question, response_format=request.response_format, has_tools=request.has_tools)


def _width_parameter(strategy_type: type[AnyStrategy]) -> str:
    return next((f"ponder.{name}" for name in WIDTH_PARAMETERS if name in strategy_type.Params.model_fields), "n")


def _built(strategy_type: type[AnyStrategy], params: Mapping[str, Any], context: StrategyContext) -> AnyStrategy:
    """Return the strategy with a plan's parameters, which it validates."""
    try:
        return strategy_type(strategy_type.Params.model_validate(dict(params)), context)
    except ValidationError as error:
        where, message = describe(error.errors())
        # What a parameter holds inside, such as a verifier's rule, is told in the message; `parameter` names the parameter.
        parameter = ".".join(
            ["ponder", *itertools.takewhile(lambda part: part.isidentifier() and part.islower(), where.split("."))]
        )
        raise InvalidRequest(
            f"{strategy_type.name}: ponder.{where}: {message}" if where else message, parameter=parameter
        ) from error


def _check_sampling(request: InferenceRequest, strategy_type: type[AnyStrategy]) -> None:
    """Raise `InvalidRequest` for sampling fields with which the strategy cannot work."""
    if strategy_type.temperature is not None and request.temperature == 0:
        raise InvalidRequest(
            f"{strategy_type.name} compares samples, and at temperature 0 they are all the same.", parameter="temperature"
        )
    # The engine counts a penalty over one call. A stepwise strategy makes a call for each step, so the count would start again.
    for field in ("presence_penalty", "frequency_penalty"):
        if strategy_type.is_stepwise and any(body.get(field) for body in request.bodies):
            raise InvalidRequest(
                f"{strategy_type.name} grows an answer in steps, and {field} would start again with each step.", parameter=field
            )


@contextmanager
def unsupported_as_invalid() -> Iterator[None]:
    """Raise `InvalidRequest` in place of a strategy's `UnsupportedTask`: the caller chose the parameters, and can change them."""
    try:
        yield
    except UnsupportedTask as error:
        raise InvalidRequest(str(error), parameter=f"ponder.{error.parameter}") from error
