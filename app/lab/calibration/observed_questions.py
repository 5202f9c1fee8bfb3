"""Observed questions: the trajectories of each question of a pool, to which the estimators of a policy are fitted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.lab.calibration.pooled_questions import PooledQuestion, ReplayOutcome
from app.lab.calibration.trajectories import WaveRecord, trajectory, wave_sizes
from strategies.core.values import AnswerKind
from strategies.core.verifier import StrategyContext

ORDERS = 8
"""The number of orders of the samples of a question. Each order is a run that could have happened."""


@dataclass(frozen=True, slots=True)
class ObservedQuestion:
    """A question with the trajectories of a search on it.

    Attributes:
        text: the last message of the user.
        task: the family of the question.
        bin: the difficulty in the data.
        kind: of the answer.
        direct: the outcome of the greedy answer, without backtracking.
        trajectories: one for each order of the samples.

    """

    text: str
    task: str
    bin: int
    kind: AnswerKind
    direct: ReplayOutcome
    trajectories: Sequence[Sequence[WaveRecord]]

    @property
    def wrong(self) -> float:
        """The probability that the first answer is wrong, 0 or 1 where the answer is known."""
        return 1 - self.trajectories[0][0].right


async def observe(
    questions: Sequence[PooledQuestion], context: StrategyContext, report: Callable[[int, int], None], orders: int = ORDERS
) -> list[ObservedQuestion]:
    """Replay the trajectories of all questions.

    Args:
        questions: the questions of one pool.
        context: the dependencies that the strategy is built with.
        report: is called with the number of finished questions and the number of all questions.
        orders: the number of orders of the samples that are replayed for each question.

    """
    observed = []
    for question in questions:
        settings, entry = question.settings, question.entry
        # only samples with continuations can be replayed with backtracking; the greedy answer is counted besides them
        sizes = wave_sizes(1 + (settings.backtracked if settings.attempts > 1 else settings.samples))
        trajectories = [await trajectory(question, seed, sizes, context) for seed in range(orders)]
        direct = question.replay_greedy()
        observed.append(ObservedQuestion(entry.question, entry.task, entry.bin, question.task.kind, direct, trajectories))
        report(len(observed), len(questions))
    return observed
