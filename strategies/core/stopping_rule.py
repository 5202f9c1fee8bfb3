"""The port through which a rule decides whether a search goes on."""

from dataclasses import dataclass
from typing import Protocol

from strategies.core.values import StopReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Moment two of a question's difficulty, as it is seen.

    Attributes:
        answers: begun so far, `attempts` at them in all.
        leader: index of the candidate that would be the answer now.
        votes: of each answer, most first; those set aside vote only where nobody else does.
        num_set_aside: answers that were cut or have a false line.
        num_unread: whole and true ones from which no answer can be read.
        first_is_true: the first one has no false line any more.
        first_leads: it gives the leading answer.
        logprob: mean log-probability of a token, of the leading answer's best candidate, `lowest` that of its worst window.
        tokens: generated so far, by all attempts together.
        length: of the leading candidate, in tokens.

    """

    answers: int
    attempts: int
    leader: int
    votes: tuple[int, ...]
    num_set_aside: int
    num_unread: int
    first_is_true: bool
    first_leads: bool
    logprob: float
    lowest: float
    tokens: int
    length: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What a rule says: how many answers there should be, or that it is enough (None) and why."""

    answers: int | None
    reason: StopReason = StopReason.COMPLETED


class StoppingRule(Protocol):
    """Decides after each wave whether another is worth it."""

    def next(self, evidence: Evidence) -> Decision:
        """Where to from here."""
        ...
