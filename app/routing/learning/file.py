"""The file of what was learned: numbers of each model, and no text of any prompt."""

import logging
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from adapters.disk import write_whole
from app.routing.learning.correction import MAX_CORRECTION, SLOPES, Correction, WordWeights
from app.routing.learning.drift import Drift
from app.routing.learning.learner import MAX_SUBJECTS, MAX_WORDS
from app.routing.learning.lesson import Corrections, Subject
from app.routing.learning.words import NUM_BUCKETS

logger = logging.getLogger("ponder.learning")

MAX_BYTES = 8 * 2**20
"""The largest file that is read. The largest that is written has half of it."""

DIGITS = 5
"""The significant digits of a number in the file."""

LEAST_COUNT = 1e-3
"""A word that was seen less is forgotten."""

Name = Annotated[str, Field(max_length=300)]
Count = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Bounded = Annotated[float, Field(ge=-2 * MAX_CORRECTION, le=2 * MAX_CORRECTION, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=1e-9, le=1e9, allow_inf_nan=False)]
Bucket = Annotated[int, Field(ge=0, lt=NUM_BUCKETS)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoredCorrection(_Part):
    """The attributes of a `Correction`."""

    mean: tuple[Bounded, Annotated[float, Field(ge=SLOPES[0], le=SLOPES[1])]]
    covariance: tuple[Positive, Annotated[float, Field(allow_inf_nan=False)], Positive]
    weight: Count

    @model_validator(mode="after")
    def _check_covariance(self) -> Self:
        first, both, second = self.covariance
        if first * second <= both * both:
            raise ValueError("the covariance is not positive definite")
        return self

    @classmethod
    def of(cls, one: Correction) -> Self:
        """Return what is stored of a correction."""
        return cls(mean=one.mean, covariance=one.covariance, weight=one.weight)

    def correction(self) -> Correction:
        """Return the correction."""
        one = Correction()
        one.mean, one.covariance, one.weight = self.mean, self.covariance, self.weight
        return one


class StoredWords(_Part):
    """The attributes of `WordWeights`. Each word is (bucket, mean, precision, count)."""

    prompts: Count
    words: tuple[tuple[Bucket, Bounded, Positive, Count], ...] = Field(max_length=NUM_BUCKETS)

    @classmethod
    def of(cls, one: WordWeights) -> Self:
        """Return what is stored of weights."""
        [buckets] = np.nonzero(one.counts > LEAST_COUNT)
        columns = (buckets, one.means[buckets], one.precisions[buckets], one.counts[buckets])
        words = tuple(
            (bucket, _short(mean), _short(precision), _short(count))
            for bucket, mean, precision, count in zip(*(column.tolist() for column in columns), strict=True)
        )
        return cls(prompts=one.prompts, words=words)

    def weights(self) -> WordWeights:
        """Return the weights."""
        one = WordWeights()
        one.prompts = self.prompts
        for bucket, mean, precision, count in self.words:
            one.means[bucket], one.precisions[bucket], one.counts[bucket] = mean, precision, count
        return one


class StoredDrift(_Part):
    """The attributes of a `Drift`."""

    evidence: Count = 0.0
    outcomes: Count = 0.0
    is_left: bool = False

    @classmethod
    def of(cls, one: Drift) -> Self:
        """Return what is stored of a drift."""
        return cls(evidence=one.evidence, outcomes=one.outcomes, is_left=one.is_left)

    def drift(self) -> Drift:
        """Return the drift."""
        return Drift(self.evidence, self.outcomes, is_left=self.is_left)


class StoredSubject(_Part):
    """A subject with its corrections. Words are by the hash of the API key."""

    model: Name
    adapter: Name
    version: Name
    estimator: Literal["general", "calibrated"]
    digest: Name
    before: StoredCorrection
    after: StoredCorrection
    words: dict[Name, StoredWords] = Field(max_length=MAX_WORDS)
    drift: StoredDrift = StoredDrift()

    @classmethod
    def of(cls, subject: Subject, one: Corrections) -> Self:
        """Return what is stored of a subject."""
        return cls(
            **subject._asdict(),
            before=StoredCorrection.of(one.before),
            after=StoredCorrection.of(one.after),
            words={key: StoredWords.of(weights) for key, weights in one.words.items()},
            drift=StoredDrift.of(one.drift),
        )

    def corrections(self) -> tuple[Subject, Corrections]:
        """Return the subject with its corrections."""
        words = {key: one.weights() for key, one in self.words.items()}
        subject = Subject(self.model, self.adapter, self.version, self.estimator, self.digest)
        return subject, Corrections(self.before.correction(), self.after.correction(), words, self.drift.drift())


class LearnedFile(_Part):
    """All that was learned by one pool of a server."""

    format: Literal[1] = 1
    subjects: tuple[StoredSubject, ...] = Field(max_length=MAX_SUBJECTS)


def read_learned(path: Path) -> dict[Subject, Corrections]:
    """Return what a file has; nothing, with a warning, where it is broken."""
    try:
        if not path.exists():
            return {}
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("it is too large")  # noqa: TRY301 - one place tells the operator
        stored = LearnedFile.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        fault = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        logger.warning("what was learned is not used, and learned anew: %s: %s", path, fault)
        return {}
    return dict(one.corrections() for one in stored.subjects)


def snapshot(learned: Iterable[tuple[Subject, Corrections]]) -> list[tuple[Subject, Corrections]]:
    """Return a copy that another thread may read."""
    return [(subject, one.copy()) for subject, one in learned]


def write_learned(path: Path, learned: Iterable[tuple[Subject, Corrections]]) -> None:
    """Write the file, which only its owner may read. Raises `OSError`."""
    subjects = tuple(StoredSubject.of(subject, one) for subject, one in learned)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, LearnedFile(subjects=subjects).model_dump_json())
    path.chmod(0o600)


def _short(number: float) -> float:
    """Return a number with `DIGITS` significant digits."""
    return round(number, DIGITS - 1 - math.floor(math.log10(abs(number)))) if number else 0.0
