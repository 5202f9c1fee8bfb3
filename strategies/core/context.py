"""What strategies and verifiers are built with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from strategies.core.ports import AnswerEquivalence
from strategies.core.stopping_rule import StoppingRule
from strategies.core.verifier import Verifier


@dataclass(frozen=True, slots=True)
class StrategyContext:
    """What one server gives to every strategy and verifier.

    Attributes:
        equivalence: tells whether two answers are the same.
        vocab_size: of the served model, for self-certainty.
        reward_models: verifiers outside the engine, by the names that the operator gave them.
        rule: the plan's stopping rule, for a strategy that draws in waves; None where the plan has none.
        watched: returns what is used in place of a verifier, such as one that traces its calls.

    """

    equivalence: AnswerEquivalence
    vocab_size: int
    reward_models: Mapping[str, Verifier] = field(default_factory=dict)
    rule: StoppingRule | None = None
    watched: Callable[[Verifier], Verifier] = lambda verifier: verifier
