"""From a pool to what is fitted: trajectories of every question, in several orders of its samples."""

from collections.abc import Callable, Sequence

from app.lab.calibration.fitting import Observed
from app.lab.calibration.questions import Question
from app.lab.calibration.trajectories import ladder, trajectory
from strategies.core.context import StrategyContext

ORDERS = 8
"""Of the samples of a question, each a run that could have been."""


async def observe(
    questions: Sequence[Question], context: StrategyContext, report: Callable[[int, int], None], orders: int = ORDERS
) -> list[Observed]:
    """One for each question; as many answers as were mended, the greedy one among them."""
    observed = []
    for question in questions:
        how = question.how
        answers = ladder(1 + (how.mended if how.attempts > 1 else how.samples))
        trajectories = [await trajectory(question, seed, answers, context) for seed in range(orders)]
        drawn, direct = question.drawn, question.replay_greedy()
        observed.append(Observed(drawn.question, drawn.task, drawn.bin, direct, trajectories))
        report(len(observed), len(questions))
    return observed
