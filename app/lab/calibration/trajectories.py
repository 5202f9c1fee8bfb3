"""What a search that draws wave by wave would have seen, been right with and cost after each: what rules are fitted to."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.lab.calibration.questions import Question
from app.lab.calibration.replay import Replay
from strategies.adaptive import Adaptive, AdaptiveParams
from strategies.core.context import StrategyContext
from strategies.core.ports import ignore_events
from strategies.core.stopping_rule import Decision, Evidence


@dataclass(frozen=True, slots=True)
class Stage:
    """After a wave.

    Attributes:
        is_right: the answer that would be given now.
        flops: all up to here.

    """

    evidence: Evidence
    is_right: bool
    flops: int


def ladder(answers: int) -> list[int]:
    """How many there are after each wave: one, then twice as many each time."""
    return [2**power for power in range(answers.bit_length())]


async def trajectory(question: Question, seed: int, answers: Sequence[int], context: StrategyContext) -> list[Stage]:
    """The waves of `adaptive` on a question, the samples in one of their orders; the first is the most likely answer alone."""
    params = AdaptiveParams(n=answers[-1], attempts=question.how.attempts)
    model = Replay(question, seed, chains=params.n)
    climb = _Climb(answers, model)
    await Adaptive(params, replace(context, rule=climb))(question.task, model, ignore_events)
    return climb.stages


class _Climb:
    """A rule that goes to the end and writes down what it passes."""

    def __init__(self, answers: Sequence[int], model: Replay) -> None:
        self._answers = answers
        self._model = model
        self.stages: list[Stage] = []

    def next(self, evidence: Evidence) -> Decision:
        self.stages.append(Stage(evidence, self._model.is_right(evidence.leader), self._model.flops))
        place = len(self.stages)
        return Decision(self._answers[place] if place < len(self._answers) else None)
