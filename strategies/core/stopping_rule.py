"""The port through which a stopping rule decides whether a search draws another wave."""

from dataclasses import dataclass
from typing import Protocol

from strategies.core.values import StopReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Features observed after a wave of samples, which the stopping rule reads.

    Attributes:
        answers: number of answers that were begun.
        attempts: number of attempts at them in all; an answer that is continued behind a false line has several.
        leader: index of the candidate that would be returned now.
        votes: of each distinct answer, the most first. Filtered answers vote only where no others do.
        num_filtered: number of answers that were cut or have a false line.
        num_unread: number of whole answers without a false line from which no final answer can be read.
        first_is_true: the first answer has no false line, or none any more.
        first_leads: the first answer is the leading one.
        logprob: mean log-probability of a token, in the best candidate of the leading answer.
        lowest: the same over that candidate's least probable window.
        tokens: generated so far, by all attempts together.
        length: of that candidate, in tokens.
        least: log-probability of its least probable token.
        answer_length: characters of the leading answer, 0 if none can be read.
        distinct_lines: share of its lines that no earlier line repeats, 0 to 1.
        is_marked: its final answer stands behind a mark, such as `####`, or in a box.
        is_complete: the model ended it itself.
        first_logprobs: log-probabilities of the first tokens of the first answer, before anything was corrected.

    """

    answers: int
    attempts: int
    leader: int
    votes: tuple[int, ...]
    num_filtered: int
    num_unread: int
    first_is_true: bool
    first_leads: bool
    logprob: float
    lowest: float
    tokens: int
    length: int
    least: float = 0.0
    answer_length: int = 0
    distinct_lines: float = 1.0
    is_marked: bool = False
    is_complete: bool = True
    first_logprobs: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What a stopping rule decides.

    Attributes:
        answers: how many answers there should be in all after the next wave; None to stop.
        reason: why it stops.

    """

    answers: int | None
    reason: StopReason = StopReason.COMPLETED


class StoppingRule(Protocol):
    """Decides after each wave whether another is worth its cost."""

    def decide(self, evidence: Evidence) -> Decision:
        """Return whether to draw another wave, and how large."""
        ...
