"""Chooses the plan of a request: the caller's own, else the one of a calibrated policy, else the one of the general estimator."""

from contextlib import suppress
from dataclasses import replace
from functools import partial

from adapters.errors import UnknownAdapter
from adapters.names import AdapterRef
from adapters.registry import AdapterRegistry
from adapters.version import AdapterVersion
from app.engine.architecture import Architecture
from app.engine.base import ModelCard
from app.errors import InvalidRequest
from app.request import InferenceRequest
from app.routing.calibrated import CalibratedPolicy
from app.routing.cascade_file import CascadeMember
from app.routing.difficulty import Difficulty
from app.routing.general import GeneralPolicy
from app.routing.learning.drift import Drift
from app.routing.learning.learner import Learner, Lessons
from app.routing.learning.words import NO_WORDS, Words
from app.routing.policies import Policies
from app.routing.policy import Plan, Query
from app.routing.policy_file import PolicyFile
from strategies.core.values import AnswerKind

AUTO = "auto"
"""The strategy name with which a caller leaves the choice to the policy."""

TYPICAL_CONTEXT = 256
"""The tokens before the token whose FLOPs tell the size of a model."""


class Planner:
    """Chooses the plan of each request.

    Args:
        policies: the policies of this server.
        general: plans for models, and kinds of answers, that were not calibrated.
        card: the engine's model card, under whose name the base model is served.
        base: the base model's own name, which policies may name too.
        adapters: the registry, None for a server without adapters.
        learner: corrects the estimates; None for a server that does not learn.

    """

    def __init__(
        self,
        policies: Policies,
        general: GeneralPolicy,
        card: ModelCard,
        base: str,
        adapters: AdapterRegistry | None,
        *,
        learner: Learner | None = None,
    ) -> None:
        self.policies = policies
        self.general = general
        self._card = card
        self._base = base
        self._adapters = adapters
        self.learner = learner

    def plan(self, request: InferenceRequest, kind: AnswerKind, load: float) -> Plan:
        """Return the plan of a request.

        It carries the estimated difficulty also where the caller named the strategy. Raises `InvalidRequest` for parameters
        without a strategy.

        Args:
            request: what the caller sent.
            kind: the kind of answer that the request wants.
            load: the load of the server, 0 (idle) to 1 (no further request is admitted).

        """
        query = self._query(request, kind, load)
        plan = self._plan(request, query)
        if request.risk is not None and (reason := self._unheld(request, plan)):
            plan = replace(plan, why=f"{plan.why}; the risk is not held: {reason}")
        if (difficulty := plan.difficulty) and difficulty.lesson and difficulty.estimator == "calibrated":
            difficulty.lesson.rival = self.general.probability(query)
        return plan

    def _query(self, request: InferenceRequest, kind: AnswerKind, load: float) -> Query:
        words = Words.of(request.question)
        query = Query(kind, request.effort, request.question, load, self.token_flops(request.adapter))
        lessons = self.lessons(request.adapter, request.owner, words)
        risk = request.risk if request.is_followed is None else None
        return replace(query, price=request.flop_price, is_followed=bool(request.is_followed), lessons=lessons, risk=risk)

    def _unheld(self, request: InferenceRequest, plan: Plan) -> str | None:
        """Return why nothing is known of what the plan may lose; None where it holds the request's risk."""
        policy, _ = self._policy_of(request.adapter)
        if request.strategy not in (None, AUTO):
            return "the caller named the strategy"
        if request.is_followed is not None:
            return "the server chooses the model"
        if policy is None or policy.file.risk is None or not plan.is_calibrated:
            return "no policy says what would be lost"
        return "the caller sets the sampling" if request.is_sampled else None

    def _plan(self, request: InferenceRequest, query: Query) -> Plan:
        policy, mismatch = self._policy_of(request.adapter)
        estimators = [one for one in (policy, self.general) if one is not None]
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
            return self._automatic_plan(request, query, policy, mismatch)
        if policy is not None:
            plan = replace(plan, exits=policy.exits(query.kind))
        for estimator in estimators:
            if (estimate := estimator.difficulty(query)) is not None:
                return replace(plan, difficulty=estimate, bin=estimator.bin_of(estimate))
        return plan

    def _automatic_plan(self, request: InferenceRequest, query: Query, policy: CalibratedPolicy | None, mismatch: str) -> Plan:
        plan = policy.plan(query) if policy is not None else None
        if plan is None:
            plan = self.general.plan(query)
            plan = replace(plan, why=f"{plan.why}; {mismatch}") if mismatch else plan
        if plan.rule is not None:
            plan.rule.after_first_tokens = partial(self.general.after_first_tokens, query)
        if request.is_sampled and plan.rule is not None:
            # The caller set the sampling. So the first answer is sampled too, and not greedy.
            return replace(plan, params={**plan.params, "first": "sample"}, temperature=None)
        return replace(plan, temperature=None) if request.is_sampled else plan

    def calibrated_difficulty(self, adapter: AdapterRef | None, query: Query) -> Difficulty | None:
        """Estimate the difficulty for an adapter (None: the base model) by its policy; None where none fits this kind of answer."""
        policy, _ = self._policy_of(adapter)
        return None if policy is None else policy.difficulty(query)

    def token_flops(self, adapter: AdapterRef | None) -> int:
        """Return the FLOPs of one token in the middle of a short answer."""
        return self.architecture_of(adapter).decode(1, TYPICAL_CONTEXT)

    def architecture_of(self, adapter: AdapterRef | None) -> Architecture:
        """Return the architecture of the model with an adapter, or alone for None."""
        return self._card.architecture_with(self._version_of(adapter))

    def lessons(self, adapter: AdapterRef | None, owner: str, words: Words) -> Lessons | None:
        """Return what begins the lesson of a request to an adapter (None: the base model); None where nothing is learned.

        `owner` is the id of the caller's key, and `words` are those of the prompt.
        """
        if self.learner is None:
            return None
        version = self._version_of(adapter)
        names = (self._card.name, adapter.name if adapter else "", version.version if version else "")
        return Lessons(self.learner, *names, owner, words)

    def drift(self, adapter: AdapterRef | None, policy: CalibratedPolicy) -> Drift:
        """Return what outcomes say of a policy of an adapter (None: of the base model)."""
        lessons = self.lessons(adapter, "", NO_WORDS)
        return Drift() if lessons is None else lessons.drift("calibrated", policy.digest)

    def _version_of(self, adapter: AdapterRef | None) -> AdapterVersion | None:
        if adapter is None or self._adapters is None:
            return None
        try:
            return self._adapters.find(adapter)
        except UnknownAdapter:  # it was just removed: whoever leases it is told
            return None

    def mismatch(self, adapter: AdapterRef | None, file: PolicyFile | CascadeMember) -> str | None:
        """Return why a policy, or a member of a cascade, was made for something else than this adapter; None where it fits.

        Args:
            adapter: None for the base model.
            file: the policy or the member.

        """
        if file.model not in {self._card.name, self._base}:
            return f"it was made for the model {file.model[:100]}"
        version = self._version_of(adapter)
        if (None if version is None else version.version) != file.adapter:
            return f"it was made for {'no adapter' if file.adapter is None else f'version {file.adapter[:8]} of the adapter'}"
        with suppress(ValueError):
            if Architecture.from_dict(file.architecture) == self._card.architecture_with(version):
                return None
        return "it was made for another model of the same name"

    def _policy_of(self, adapter: AdapterRef | None) -> tuple[CalibratedPolicy | None, str]:
        """Return the active policy of the model or adapter that answers, or None and the reason why it is not used."""
        policy = self.policies.find(adapter.name if adapter else self._card.name)
        if policy is None:
            return None, ""
        mismatch = self.mismatch(adapter, policy.file)
        if mismatch is None and self.drift(adapter, policy).is_left:
            mismatch = "on the last outcomes its estimates were worse than the general ones"
        return (policy, "") if mismatch is None else (None, f"its policy is not used: {mismatch}")
