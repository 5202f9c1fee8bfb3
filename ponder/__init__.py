"""The public Python API of ponder: ask a model without a server, and write strategies and verifiers of your own.

    import ponder

    with ponder.Ponder("smollm2-135m") as model:
        answer = model.ask("Calculate 17 + 25 + 8.", model="reasoning", strategy="self_consistency", n=8)
    print(answer.text, answer.stop_reason, answer.flops)

Importing it loads neither vLLM nor torch: the model is loaded by `Ponder` and `load`. Everything that is not named here may change in
any release.
"""

from adapters.errors import AdapterError
from app.engine.scripted import ScriptedEngine, cycle
from app.errors import Busy, EngineDead, InvalidRequest, NotFound, PonderError
from app.metering.budget import Budget
from app.request import Effort
from app.routing.policy import Plan
from ponder.answer import Answer
from ponder.asynchronous import AsyncPonder, load
from ponder.synchronous import Ponder
from strategies.core.checks import check_choices, check_comparable
from strategies.core.errors import UnsupportedTask, VerifierFailed
from strategies.core.parameters import Params
from strategies.core.ports import AnswerEquivalence, Emit, Model, ignore_events
from strategies.core.results import NodeState, Progress, Result, TraceNode
from strategies.core.strategy import Forecast, Strategy, ended, in_order
from strategies.core.values import AnswerKind, Candidate, Delta, Draw, ScoredCandidate, Step, StopReason, Task
from strategies.core.verifier import StrategyContext, Verifier, VerifierChoice
from strategies.registry import PluginError
from strategies.search.scorer import Scorer
from strategies.verifiers import AnyVerifier, StepVerifier, build_for
from strategies.voting.selection import choose

__all__ = [
    "AdapterError",
    "Answer",
    "AnswerEquivalence",
    "AnswerKind",
    "AnyVerifier",
    "AsyncPonder",
    "Budget",
    "Busy",
    "Candidate",
    "Delta",
    "Draw",
    "Effort",
    "Emit",
    "EngineDead",
    "Forecast",
    "InvalidRequest",
    "Model",
    "NodeState",
    "NotFound",
    "Params",
    "Plan",
    "PluginError",
    "Ponder",
    "PonderError",
    "Progress",
    "Result",
    "ScoredCandidate",
    "Scorer",
    "ScriptedEngine",
    "Step",
    "StepVerifier",
    "StopReason",
    "Strategy",
    "StrategyContext",
    "Task",
    "TraceNode",
    "UnsupportedTask",
    "Verifier",
    "VerifierChoice",
    "VerifierFailed",
    "build_for",
    "check_choices",
    "check_comparable",
    "choose",
    "cycle",
    "ended",
    "ignore_events",
    "in_order",
    "load",
]
