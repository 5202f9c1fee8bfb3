"""Learns the corrections of all models of a pool, from outcomes and from what answers show."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from app.routing.learning.correction import WordWeights
from app.routing.learning.drift import Drift
from app.routing.learning.lesson import Corrections, Lesson, Subject, moved
from app.routing.learning.shares import Shares
from app.routing.learning.words import Words

logger = logging.getLogger("ponder.learning")

ANSWER_WEIGHT = 0.3
"""How much the estimate after an answer counts as the outcome, where nobody knows whether the answer is right."""

AGREEMENT_WEIGHT = 0.6
"""How much that probability counts which many answers to the same question give. With `ANSWER_WEIGHT` it is less than an outcome."""

MOST_ANSWERS, MOST_OUTCOMES = 100.0, 50.0
"""The largest weights that the answers, and the outcomes, of one API key have within an hour or so (`shares.WINDOW_S`)."""

MAX_WORDS = 64
"""The keys and subjects, together, whose words are kept: those that were learned of last."""

MAX_SUBJECTS = 32
"""The models and versions of adapters whose corrections are kept: those that were learned of last."""


@dataclass(frozen=True, slots=True)
class Lessons:
    """Begins the lesson of a request. See `Subject` and `Lesson` for the fields."""

    learner: "Learner"
    model: str
    adapter: str
    version: str
    key: str
    words: Words

    def begin(self, estimator: str, digest: str, probability: float) -> Lesson:
        """Return the lesson of a request, with the correction of its first estimate.

        Args:
            estimator: who has estimated, `general` or `calibrated`.
            digest: of its numbers.
            probability: the estimate before the first token.

        """
        return self.learner.begin(self._subject(estimator, digest), self.key, probability, self.words)

    def drift(self, estimator: str, digest: str) -> Drift:
        """Return what outcomes say of a policy."""
        return self.learner.drift(self._subject(estimator, digest))

    def _subject(self, estimator: str, digest: str) -> Subject:
        return Subject(self.model, self.adapter, self.version, estimator, digest)


class Learner:
    """The corrections of all models of a pool.

    Everything is used from the event loop's thread alone, and takes less than 0.1 ms a request.

    Args:
        known: corrections that were learned before.
        clock: returns seconds, for what keys may teach.

    Attributes:
        version: is raised with each observation.

    """

    def __init__(self, known: Mapping[Subject, Corrections] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._known = dict(known or {})
        self._recent = {(subject, key): None for subject, one in self._known.items() for key in one.words}
        self._answers = Shares(MOST_ANSWERS, clock)
        self._outcomes = Shares(MOST_OUTCOMES, clock)
        self.version = 0

    def __iter__(self) -> Iterator[tuple[Subject, Corrections]]:
        """Iterate over the corrections, those that were learned of last behind the others."""
        return iter(self._known.items())

    def begin(self, subject: Subject, key: str, probability: float, words: Words) -> Lesson:
        """Return the lesson of a request; see `Lessons.begin`."""
        corrections = self._known.get(subject) or Corrections()
        shift = corrections.before.shift(probability, words, corrections.words.get(key))
        return Lesson(self, subject, key, corrections, probability, words, shift)

    def learn_answer(self, lesson: Lesson) -> None:
        """Learn the first estimate from the one after the answers."""
        if lesson.first_wrong is not None and (weight := self._answers.take(lesson.key, ANSWER_WEIGHT)):
            self._learn_before(lesson, lesson.first_wrong, weight)

    def learn_agreement(self, lesson: Lesson, first_wrong: float) -> None:
        """Learn the first estimate from how far many answers agree."""
        if weight := self._answers.take(lesson.key, AGREEMENT_WEIGHT):
            self._learn_before(lesson, first_wrong, weight)

    def learn_outcome(self, lesson: Lesson, *, is_right: bool) -> None:
        """Learn both estimates from an outcome, as far as it tells something of the answers that they are of."""
        if not (weight := self._outcomes.take(lesson.key, 1.0)):
            return
        if lesson.after is not None:
            self._of(lesson.subject).after.observe(lesson.after, float(not is_right), weight)
        if lesson.gives_first:
            self._learn_first(lesson, float(not is_right), weight)
        elif is_right:  # then the first answer, which is another one, is wrong
            self._learn_first(lesson, 1.0, weight)

    def _learn_first(self, lesson: Lesson, outcome: float, weight: float) -> None:
        """Learn that the first answer is wrong (1) or right (0), also of who estimates better."""
        self._learn_before(lesson, outcome, weight)
        if lesson.rival is None:
            return
        one, own = self._of(lesson.subject), moved(lesson.before, lesson.before_shift)
        has_others = len(one.words) > 1
        if one.drift.observe(own, lesson.rival, outcome, weight, lesson.key, has_others=has_others):
            name = lesson.subject.adapter or lesson.subject.model
            logger.warning(
                "the policy of %s is not used any more: on %.0f outcomes its estimates were worse than the general ones; "
                "calibrate it again, or choose a policy",
                name, one.drift.outcomes,
            )  # fmt: skip

    def drift(self, subject: Subject) -> Drift:
        """Return what outcomes say of a policy."""
        known = self._known.get(subject)
        return Drift() if known is None else known.drift

    def trust_again(self, name: str) -> None:
        """Forget what outcomes said of the policies of an adapter or a base model: somebody has chosen one."""
        for subject, one in self._known.items():
            if name == (subject.adapter or subject.model):
                one.drift = Drift()
        self.version += 1

    def _learn_before(self, lesson: Lesson, outcome: float, weight: float) -> None:
        """Learn how likely it was that the first answer is wrong."""
        corrections, key = self._of(lesson.subject), lesson.key
        weights = corrections.words.setdefault(key, WordWeights())
        corrections.before.observe(lesson.before, outcome, weight, lesson.words, weights)
        self._recent.pop((lesson.subject, key), None)
        self._recent[lesson.subject, key] = None  # behind all others
        if len(self._recent) > MAX_WORDS:
            subject, oldest = next(iter(self._recent))
            del self._recent[subject, oldest]
            if subject in self._known:
                self._known[subject].words.pop(oldest, None)

    def _of(self, subject: Subject) -> Corrections:
        """Return the corrections of a subject that is learned of now."""
        corrections = self._known.pop(subject) if subject in self._known else Corrections()
        self._known[subject] = corrections  # behind all others
        if len(self._known) > MAX_SUBJECTS:
            del self._known[next(iter(self._known))]
        self.version += 1
        return corrections
