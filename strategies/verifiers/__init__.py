"""The verifiers by name. A new one is a file here and a line in `VERIFIERS`; everything else reads what it declares.

Those without parameters are chosen by their name, the others by an object with their name as a key: `{"regex": "yes|no"}`.
"""

from typing import Annotated

from pydantic import Field

from strategies.core.parameters import Params
from strategies.core.registry import Registry
from strategies.core.values import AnswerKind, Task
from strategies.core.verifier import StrategyContext, Verifier, VerifierChoice, VerifierField
from strategies.verifiers.adapter import AdapterVerifier
from strategies.verifiers.arithmetic import ArithmeticVerifier
from strategies.verifiers.equations import Equations
from strategies.verifiers.json_schema import SchemaVerifier
from strategies.verifiers.judge import Judge
from strategies.verifiers.likelihood import Likelihood
from strategies.verifiers.majority import Majority
from strategies.verifiers.number import NumberVerifier
from strategies.verifiers.p_true import PTrue
from strategies.verifiers.regex import RegexVerifier
from strategies.verifiers.reward_model import RewardModelVerifier
from strategies.verifiers.self_certainty import SelfCertainty
from strategies.verifiers.tournament import Tournament

VERIFIERS: Registry[type[Verifier]] = Registry(
    "verifier",
    (
        Majority,
        Likelihood,
        SelfCertainty,
        PTrue,
        Tournament,
        Equations,
        AdapterVerifier,
        Judge,
        RewardModelVerifier,
        RegexVerifier,
        SchemaVerifier,
        NumberVerifier,
        ArithmeticVerifier,
    ),
)
"""Those that come with ponder. A server with plugins has more, and binds them to the parameters of all strategies."""

AnyVerifier = Annotated[VerifierChoice, VerifierField(VERIFIERS)]
"""The type of a parameter that chooses a verifier."""

StepVerifier = Annotated[VerifierChoice, VerifierField(VERIFIERS, steps_only=True)]
"""The same, of those that can score an answer that is not finished."""

AnswerVerifier = Annotated[
    AnyVerifier | None,
    Field(
        description="what picks among all answers (see the verifiers); by default `majority` where they can be compared, "
        "else `likelihood`"
    ),
]
"""`verifier` of strategies that score whole answers."""

MAJORITY, LIKELIHOOD = (VerifierChoice(verifier, Params()) for verifier in (Majority, Likelihood))


def build_for(choice: VerifierChoice | None, task: Task, context: StrategyContext) -> Verifier:
    """Return the verifier of whole answers: by default a majority where they can be compared, else likelihood.

    Raises `UnsupportedTask` if the verifier cannot score answers to this task, or this server cannot honour its parameters.
    """
    chosen = choice or (LIKELIHOOD if task.kind is AnswerKind.OPEN else MAJORITY)
    chosen.verifier.check(task)
    return chosen.build(context)


def num_calls(choice: VerifierChoice | None, num_candidates: int) -> int:
    """Return how many calls of the model the choice takes for so many candidates. The verifiers chosen by default take none."""
    return 0 if choice is None else choice.verifier.num_calls(num_candidates)
