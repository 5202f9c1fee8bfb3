"""What one request can teach: its estimates before they were corrected, and what its answers showed."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from app.routing.features import logit
from app.routing.learning.correction import Correction, WordWeights
from app.routing.learning.drift import Drift
from app.routing.learning.words import Words


class Subject(NamedTuple):
    """Whose estimates are corrected.

    Attributes:
        model: the name of the base model.
        adapter: the name of the adapter that answers, "" for the base model.
        version: the hash of the adapter's version, "" for the base model.
        estimator: `general` or `calibrated`.
        digest: of the estimator's numbers. A correction belongs to the estimates that it was learned of.

    """

    model: str
    adapter: str
    version: str
    estimator: str
    digest: str


@dataclass(slots=True)
class Corrections:
    """The corrections of one subject, by the moment of the estimate.

    Attributes:
        drift: of a calibrated policy from its traffic.
        words: of the estimate before the first token, by the API key whose prompts had them. What one key asks moves nothing of another's
            estimates but intercept and slope, so that nobody learns of the words of others.

    """

    before: Correction = field(default_factory=Correction)
    after: Correction = field(default_factory=Correction)
    words: dict[str, WordWeights] = field(default_factory=dict)
    drift: Drift = field(default_factory=Drift)

    def copy(self) -> "Corrections":
        """Return a copy."""
        return Corrections(
            self.before.copy(), self.after.copy(), {key: one.copy() for key, one in self.words.items()}, self.drift.copy()
        )


class Teacher(Protocol):
    """Learns from lessons."""

    def learn_answer(self, lesson: "Lesson") -> None:
        """Learn from what the answers of a request showed, where nobody knows whether they are right."""
        ...

    def learn_agreement(self, lesson: "Lesson", first_wrong: float) -> None:
        """Learn how probably the first answer is wrong, from how far many answers to the same question agree."""
        ...

    def learn_outcome(self, lesson: "Lesson", *, is_right: bool) -> None:
        """Learn that the answer that was given is right, or that it is wrong."""
        ...


@dataclass(slots=True)
class Lesson:
    """One request and its estimates.

    Attributes:
        teacher: to which the lesson goes.
        subject: whose estimates they are.
        key: the API key that sent the request.
        corrections: as they were when the request was planned.
        before: the estimate before the first token, not corrected.
        words: of the prompt.
        before_shift: what the correction added to the log-odds of `before`.
        after: the estimate after the last wave, not corrected; None before a wave.
        after_shift: what the correction added to its log-odds.
        first_wrong: the probability that the first answer is wrong, by what the answers show; None before a wave. No correction of the
            first estimate is in it, so that the correction does not confirm itself.
        rival: what the general estimator says where the estimate is that of a calibrated policy, None elsewhere.
        gives_first: whether the answer that was given is the first one. None where that is not known yet.

    """

    teacher: Teacher
    subject: Subject
    key: str
    corrections: Corrections
    before: float
    words: Words
    before_shift: float
    after: float | None = None
    after_shift: float = 0.0
    first_wrong: float | None = None
    rival: float | None = None
    gives_first: bool | None = None

    def see_wave(self, estimate: float, plain: float, *, first_leads: bool) -> float:
        """Take in the estimates after a wave, and return the probability that the leading answer is wrong, corrected.

        Args:
            estimate: that probability, with the corrected first estimate among its features.
            plain: the same with the first estimate as it was before its correction.
            first_leads: whether the first answer is the leading one.

        """
        correction = self.corrections.after
        self.after, self.after_shift = estimate, correction.shift(estimate)
        plain = moved(plain, correction.shift(plain))
        if first_leads:
            self.first_wrong = plain
        else:  # the first answer is wrong wherever the leader is right
            self.first_wrong = max(1 - plain, self.first_wrong or 0.0)
        return moved(estimate, self.after_shift)

    def close(self, *, gives_first: bool) -> None:
        """Learn from the answers of a request that has ended."""
        self.gives_first = gives_first
        self.teacher.learn_answer(self)

    def see_agreement(self, first_wrong: float) -> None:
        """Learn from many answers to the same question, which live calibration drew; `first_wrong` is a probability."""
        self.teacher.learn_agreement(self, first_wrong)

    def judge(self, *, is_right: bool) -> None:
        """Learn whether the answer that was given is right."""
        self.teacher.learn_outcome(self, is_right=is_right)


def moved(probability: float, shift: float) -> float:
    """Return a probability after its log-odds were moved."""
    return 1 / (1 + math.exp(-logit(probability) - shift)) if shift else probability
