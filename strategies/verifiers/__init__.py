"""Scores for candidates, over the ports of `strategies.base`. Each is built from `Tools`, so that requests share no state.

Those without parameters are chosen by their name; the others by an object whose key is their name, as `{"regex": "yes|no"}`.
"""

from typing import Literal

from strategies.base import AnswerKind, Task, UnsupportedTask, Verifier
from strategies.named import Named
from strategies.strategy import Tools
from strategies.verifiers.adapter import AdapterChoice
from strategies.verifiers.arithmetic import ArithmeticChoice
from strategies.verifiers.equations import Equations
from strategies.verifiers.likelihood import Likelihood
from strategies.verifiers.majority import Majority
from strategies.verifiers.p_true import PTrue
from strategies.verifiers.reward_model import RewardModelChoice
from strategies.verifiers.rules import NumberChoice, RegexChoice, SchemaChoice
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

VERIFIERS: Named[VerifierClass] = Named("verifier", (Majority, Likelihood, SelfCertainty, PTrue, Equations))
CHOICES: Named[ChoiceClass] = Named(
    "verifier", (AdapterChoice, RewardModelChoice, RegexChoice, SchemaChoice, NumberChoice, ArithmeticChoice)
)

AnyVerifier = Literal["majority", "likelihood", "self_certainty", "p_true", "equations"] | Choice
StepVerifier = Literal["likelihood", "self_certainty", "p_true", "equations"] | Choice
"""Those that can judge an answer that is not finished; a majority cannot."""


def build(choice: str | Choice, tools: Tools) -> Verifier:
    """The verifier; raises `UnsupportedTask` when its rule is broken or this server has none of that name."""
    return tools.watched(VERIFIERS[choice](tools) if isinstance(choice, str) else choice.build(tools))


def build_for(choice: str | Choice | None, task: Task, tools: Tools) -> Verifier:
    """The verifier of whole answers; by default a majority where they can be compared, else likelihood."""
    if choice == Majority.name and task.kind is AnswerKind.OPEN:
        message = 'majority needs answers that can be compared: set "answer" to their kind, or choose another verifier'
        raise UnsupportedTask(message, parameter="verifier")
    return build(choice or (Likelihood.name if task.kind is AnswerKind.OPEN else Majority.name), tools)


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
