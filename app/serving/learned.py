"""What a service has learned of its estimates: read at the start, kept in the folder of policies, shown on the metrics page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.routing.learning.file import read_learned
from app.routing.learning.keeping import kept
from app.routing.learning.learner import Learner
from app.telemetry.learning_metrics import CorrectionRow

LEARNED = ".learned.json"
"""The file in the folder of policies. No adapter's name has a dot first."""


def open_learner(policy_dir: Path) -> Learner:
    """Return a learner that knows what was learned before."""
    return Learner(read_learned(policy_dir / LEARNED))


@asynccontextmanager
async def keeping(learner: Learner | None, policy_dir: Path) -> AsyncIterator[None]:
    """Keep what is learned until the end of the block; nothing where the server does not learn."""
    if learner is None:
        yield
        return
    async with kept(learner, policy_dir / LEARNED):
        yield


def rows_of(learner: Learner) -> list[CorrectionRow]:
    """Return the corrections as the metrics page shows them."""
    return [
        CorrectionRow(
            subject.model,
            subject.adapter,
            subject.estimator,
            moment,
            *one.mean,
            one.weight,
            corrections.drift.evidence if subject.estimator == "calibrated" else None,
            corrections.drift.is_left,
        )
        for subject, corrections in learner
        for moment, one in (("before", corrections.before), ("after", corrections.after))
    ]
