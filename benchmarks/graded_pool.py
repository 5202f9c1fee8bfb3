"""Pools with known answers, and what of them is known without the answers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from app.lab.calibration.pool import read_pool
from app.lab.calibration.pooled_questions import PooledQuestion
from app.routing.agreement import AgreementModel
from app.routing.ballots import GenerationBallot, ballots_of, labels_of
from app.routing.pool_file import POOL, PoolEntry, PoolSettings
from app.serving.live_pool import NUM_SAMPLES
from strategies.answers.equivalence import Equivalence
from strategies.core.values import AnswerKind


@dataclass(frozen=True)
class GradedPool:
    """A pool with known answers, and its ballots."""

    settings: PoolSettings
    entries: Sequence[PoolEntry]
    ballots: Sequence[Sequence[GenerationBallot]]

    @classmethod
    async def read(cls, folder: Path, equivalence: Equivalence) -> Self:
        """Read a folder that `ponder calibrate` has filled. Questions whose answers cannot be compared are left out."""
        settings, entries = read_pool(folder / POOL)
        return await cls.graded(settings, [one for one in entries if one.kind != AnswerKind.OPEN], equivalence)

    @classmethod
    async def graded(cls, settings: PoolSettings, entries: Sequence[PoolEntry], equivalence: Equivalence) -> Self:
        """Compare the answers to each of the questions."""
        return cls(settings, entries, [await ballots_of(one, equivalence) for one in entries])

    def questions(self, model: AgreementModel | None) -> list[PooledQuestion]:
        """Return the questions with their answers as they were graded, or as a model finds them probable."""
        return [
            PooledQuestion(entry, self.settings, None if model is None else labels_of(ballots, model))
            for entry, ballots in zip(self.entries, self.ballots, strict=True)
        ]

    def part(self, number: int) -> Self:
        """Return every second question, from the first or the second one on."""
        return replace(self, entries=self.entries[number::2], ballots=self.ballots[number::2])

    def live(self) -> Self:
        """Return what live calibration would have kept: fewer samples. Their ballots come first, and do not depend on later ones."""
        settings = self.settings.model_copy(
            update={
                "samples": min(NUM_SAMPLES, self.settings.samples),
                "backtracked": min(NUM_SAMPLES, self.settings.backtracked),
            }
        )
        entries = [one.model_copy(update={"samples": one.samples[:NUM_SAMPLES]}) for one in self.entries]
        ballots = [each[: len(one.generations)] for one, each in zip(entries, self.ballots, strict=True)]
        return replace(self, settings=settings, entries=entries, ballots=ballots)
