"""Which plan a request gets: the one that the caller names, that of the policy of what answers, or the prior's."""

from dataclasses import asdict, replace

from adapters.names import AdapterRef
from adapters.registry import AdapterRegistry
from app.engine.base import ModelCard
from app.errors import InvalidRequest
from app.request import InferenceRequest
from app.routing.calibrated import CalibratedPolicy
from app.routing.policies import Policies
from app.routing.policy import Plan, PriorPolicy, Query
from app.routing.policy_file import PolicyFile
from strategies.core.values import AnswerKind

AUTO = "auto"


class Planner:
    """See the module.

    Args:
        card: of the engine, under whose name the base model is served.
        base: the model's own name, which policies are made for too.

    """

    def __init__(self, policies: Policies, card: ModelCard, base: str, adapters: AdapterRegistry | None) -> None:
        self._policies = policies
        self._card = card
        self._base = base
        self._adapters = adapters

    def plan(self, request: InferenceRequest, kind: AnswerKind, load: float) -> Plan:
        """Raises `InvalidRequest` for parameters of no strategy. The difficulty is told whoever chose the plan."""
        query = Query(kind, request.effort, request.question, load)
        # several prompts have several difficulties, and token ids tell none
        policy, why_not = self._calibrated(request) if len(request.bodies) == 1 and request.question else (None, "")
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
            return _auto(request, query, policy, why_not)
        known = policy.difficulty(query) if policy is not None else None
        return plan if known is None else replace(plan, difficulty=known[0], bin=known[1])

    def misfit(self, adapter: AdapterRef | None, file: PolicyFile) -> str | None:
        """Why a policy is not for what answers."""
        if file.model not in {self._card.name, self._base}:
            return f"it was made for the model {file.model[:100]}"
        found = None if adapter is None or self._adapters is None else self._adapters.find(adapter)
        if (None if found is None else found.version) != file.adapter:
            return f"it was made for {'no adapter' if file.adapter is None else f'version {file.adapter[:8]} of the adapter'}"
        if file.architecture != asdict(self._card.architecture_with(found)):
            return "it was made for another model of the same name"
        return None

    def _calibrated(self, request: InferenceRequest) -> tuple[CalibratedPolicy | None, str]:
        """The policy of what answers, or why there is none that holds."""
        policy = self._policies.find(request.adapter.name if request.adapter else self._card.name)
        if policy is None:
            return None, ""
        misfit = self.misfit(request.adapter, policy.file)
        return (policy, "") if misfit is None else (None, f"its policy is not used: {misfit}")


def _auto(request: InferenceRequest, query: Query, policy: CalibratedPolicy | None, why_not: str) -> Plan:
    plan = policy.plan(query) if policy is not None else None
    if plan is None:
        plan = PriorPolicy().plan(query)
        return replace(plan, why=f"{plan.why}; {why_not}") if why_not else plan
    if request.is_sampled:  # as the caller says, and so not quite what was measured
        return replace(plan, params={**plan.params, **({"first": "sample"} if plan.rule else {})}, temperature=None)
    return plan
