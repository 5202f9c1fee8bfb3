"""Trajectories: what a search in waves observed after each wave, whether it was right then, and what it had cost."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.lab.calibration.pooled_questions import PooledQuestion
from app.lab.calibration.replay import ReplayModel
from strategies.adaptive import Adaptive, AdaptiveParams
from strategies.core.ports import ignore_events
from strategies.core.stopping_rule import Decision, Evidence
from strategies.core.verifier import StrategyContext


@dataclass(frozen=True, slots=True)
class WaveRecord:
    """The state of a search after one of its waves.

    Attributes:
        evidence: what a stopping rule observes.
        right: the probability that the leading answer is right, 0 or 1 where that is known.
        flops: of all waves so far.

    """

    evidence: Evidence
    right: float
    flops: int


def wave_sizes(answers: int) -> list[int]:
    """Return the numbers of answers after each wave, up to `answers`: 1, 2, 4, 8 and so on."""
    return [2**power for power in range(answers.bit_length())]


async def trajectory(question: PooledQuestion, seed: int, sizes: Sequence[int], context: StrategyContext) -> list[WaveRecord]:
    """Replay all waves of `adaptive` on a question. The first wave is the greedy answer alone.

    Args:
        question: with its answers.
        seed: of the order of the samples.
        sizes: the number of answers after each wave.
        context: the dependencies that the strategy is built with.

    """
    params = AdaptiveParams(n=sizes[-1], attempts=question.settings.attempts)
    model = ReplayModel(question, seed, num_answers=params.n)
    rule = _RecordingRule(sizes, model)
    await Adaptive(params, replace(context, rule=rule))(question.task, model, ignore_events)
    return rule.records


class _RecordingRule:
    """A stopping rule that never stops before the last wave, and records each one."""

    def __init__(self, sizes: Sequence[int], model: ReplayModel) -> None:
        self._sizes = sizes
        self._model = model
        self.records: list[WaveRecord] = []

    def decide(self, evidence: Evidence) -> Decision:
        self.records.append(WaveRecord(evidence, self._model.right(evidence.leader), self._model.flops))
        num_waves = len(self.records)
        return Decision(self._sizes[num_waves] if num_waves < len(self._sizes) else None)
