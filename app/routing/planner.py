"""Chooses the plan of a request: the caller's own, else the one of a calibrated policy, else the one of the prior policy."""

from contextlib import suppress
from dataclasses import replace

from adapters.names import AdapterRef
from adapters.registry import AdapterRegistry
from app.engine.architecture import Architecture
from app.engine.base import ModelCard
from app.errors import InvalidRequest
from app.request import InferenceRequest
from app.routing.calibrated import CalibratedPolicy
from app.routing.policies import Policies
from app.routing.policy import Plan, PriorPolicy, Query
from app.routing.policy_file import PolicyFile
from strategies.core.values import AnswerKind

AUTO = "auto"
"""The strategy name with which a caller leaves the choice to the policy."""


class Planner:
    """Chooses the plan of each request.

    Args:
        policies: the policies of this server.
        card: the engine's model card, under whose name the base model is served.
        base: the base model's own name, which policies may name too.
        adapters: the registry, None for a server without adapters.

    """

    def __init__(self, policies: Policies, card: ModelCard, base: str, adapters: AdapterRegistry | None) -> None:
        self.policies = policies
        self._card = card
        self._base = base
        self._adapters = adapters

    def plan(self, request: InferenceRequest, kind: AnswerKind, load: float) -> Plan:
        """Return the plan of a request.

        It carries the estimated difficulty also where the caller named the strategy. Raises `InvalidRequest` for parameters
        without a strategy.

        Args:
            request: what the caller sent.
            kind: the kind of answer that the request wants.
            load: the load of the server, 0 (idle) to 1 (no further request is admitted).

        """
        query = Query(kind, request.effort, request.question, load)
        # several prompts have several difficulties, and a prompt of token ids has no text to estimate one from
        has_one_text = len(request.bodies) == 1 and request.question
        policy, mismatch = self._policy_of(request) if has_one_text else (None, "")
        if request.strategy not in (None, AUTO):
            plan = Plan(request.strategy, dict(request.parameters), why="named by the caller", is_calibrated=False)
        elif request.parameters:
            name = next(iter(request.parameters))
            raise InvalidRequest(f"`{name}` is a parameter of a strategy, but none is named.", parameter=f"ponder.{name}")
        elif request.temperature == 0:
            plan = Plan("direct", {}, why="temperature 0: every sample would be the same", is_calibrated=False)
        elif request.num_choices > 1:
            plan = Plan("direct", {}, why="several answers are wanted, not one", is_calibrated=False)
        else:
            return _automatic_plan(request, query, policy, mismatch)
        if policy is None:
            return plan
        plan = replace(plan, exits=policy.exits(kind))
        estimate = policy.difficulty(query)
        return plan if estimate is None else replace(plan, difficulty=estimate[0], bin=estimate[1])

    def mismatch(self, adapter: AdapterRef | None, file: PolicyFile) -> str | None:
        """Return why a policy was made for something else than this adapter (None: the base model), or None where it fits."""
        if file.model not in {self._card.name, self._base}:
            return f"it was made for the model {file.model[:100]}"
        version = None if adapter is None or self._adapters is None else self._adapters.find(adapter)
        if (None if version is None else version.version) != file.adapter:
            return f"it was made for {'no adapter' if file.adapter is None else f'version {file.adapter[:8]} of the adapter'}"
        with suppress(ValueError):
            if Architecture.from_dict(file.architecture) == self._card.architecture_with(version):
                return None
        return "it was made for another model of the same name"

    def _policy_of(self, request: InferenceRequest) -> tuple[CalibratedPolicy | None, str]:
        """Return the active policy of the model or adapter that answers, or None and the reason why it is not used."""
        policy = self.policies.find(request.adapter.name if request.adapter else self._card.name)
        if policy is None:
            return None, ""
        mismatch = self.mismatch(request.adapter, policy.file)
        return (policy, "") if mismatch is None else (None, f"its policy is not used: {mismatch}")


def _automatic_plan(request: InferenceRequest, query: Query, policy: CalibratedPolicy | None, mismatch: str) -> Plan:
    plan = policy.plan(query) if policy is not None else None
    if plan is None:
        plan = PriorPolicy().plan(query)
        return replace(plan, why=f"{plan.why}; {mismatch}") if mismatch else plan
    if request.is_sampled:
        # The caller set the sampling. So the first answer is sampled too, and not greedy.
        return replace(plan, params={**plan.params, **({"first": "sample"} if plan.rule else {})}, temperature=None)
    return plan
