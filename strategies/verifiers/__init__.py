"""Scores for candidates, over the ports of `strategies.core`. Each is built from `StrategyContext`, so that requests share no state.

Those without parameters are chosen by their name; the others by an object whose key is their name, as `{"regex": "yes|no"}`.
"""

from typing import Literal

from strategies.core.errors import UnsupportedTask
from strategies.core.ports import Verifier
from strategies.core.registry import Registry
from strategies.core.strategy import StrategyContext
from strategies.core.values import AnswerKind, Task
from strategies.verifiers.adapter import AdapterChoice
from strategies.verifiers.arithmetic import ArithmeticChoice
from strategies.verifiers.equations import Equations
from strategies.verifiers.exact import NumberChoice, RegexChoice, SchemaChoice
from strategies.verifiers.likelihood import Likelihood
from strategies.verifiers.majority import Majority
from strategies.verifiers.p_true import PTrue
from strategies.verifiers.reward_model import RewardModelChoice
from strategies.verifiers.self_certainty import SelfCertainty

VerifierClass = type[Majority] | type[Likelihood] | type[SelfCertainty] | type[PTrue] | type[Equations]
ChoiceClass = (
    type[AdapterChoice]
    | type[RewardModelChoice]
    | type[RegexChoice]
    | type[SchemaChoice]
    | type[NumberChoice]
    | type[ArithmeticChoice]
)
Choice = AdapterChoice | RewardModelChoice | RegexChoice | SchemaChoice | NumberChoice | ArithmeticChoice

VERIFIERS: Registry[VerifierClass] = Registry("verifier", (Majority, Likelihood, SelfCertainty, PTrue, Equations))
CHOICES: Registry[ChoiceClass] = Registry(
    "verifier", (AdapterChoice, RewardModelChoice, RegexChoice, SchemaChoice, NumberChoice, ArithmeticChoice)
)

AnyVerifier = Literal["majority", "likelihood", "self_certainty", "p_true", "equations"] | Choice
StepVerifier = Literal["likelihood", "self_certainty", "p_true", "equations"] | Choice
"""Those that can judge an answer that is not finished; a majority cannot."""


def build(choice: str | Choice, context: StrategyContext) -> Verifier:
    """The verifier; raises `UnsupportedTask` when its rule is broken or this server has none of that name."""
    return context.watched(VERIFIERS[choice](context) if isinstance(choice, str) else choice.build(context))


def build_for(choice: str | Choice | None, task: Task, context: StrategyContext) -> Verifier:
    """The verifier of whole answers; by default a majority where they can be compared, else likelihood."""
    if choice == Majority.name and task.kind is AnswerKind.OPEN:
        message = 'majority needs answers that can be compared: set "answer" to their kind, or choose another verifier'
        raise UnsupportedTask(message, parameter="verifier")
    return build(choice or (Likelihood.name if task.kind is AnswerKind.OPEN else Majority.name), context)


def adapters_of(choice: object) -> tuple[str, ...]:
    """Adapters that the choice needs."""
    return choice.adapters if isinstance(choice, AdapterChoice) else ()


def is_exact(choice: object) -> bool:
    """Whether it is a rule that does not err."""
    return isinstance(choice, RegexChoice | NumberChoice | SchemaChoice | ArithmeticChoice)


def num_calls(choice: object, num_candidates: int) -> int:
    """How often the model is asked for verdicts on so many candidates: by those that ask it, and not by those that only look."""
    return num_candidates if choice == PTrue.name or isinstance(choice, AdapterChoice) else 0


__all__ = [
    "CHOICES",
    "VERIFIERS",
    "AnyVerifier",
    "Choice",
    "StepVerifier",
    "Verifier",
    "adapters_of",
    "build",
    "build_for",
    "is_exact",
    "num_calls",
]
