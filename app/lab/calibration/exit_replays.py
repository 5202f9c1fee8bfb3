"""Replays early exits from thinking: tried thoughts, ended by any rule and threshold (`app.lab.calibration.tried_thoughts`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from app.lab.calibration.performance import Numbers
from app.lab.calibration.tried_thoughts import MEANS, PLACES, RecordedTrial, TriedThought
from strategies.checking.trials import Mean, Trial, agree
from strategies.core.ports import AnswerEquivalence
from strategies.core.values import Candidate

WINDOWS = (2, 3)
"""The numbers of trial answers that must agree, for the rule of agreement."""

NO_ANSWER = -1.0
"""The score of a trial that cannot end a thinking."""


@dataclass(frozen=True, slots=True)
class ReplayedExit:
    """What became of one thought.

    Attributes:
        thinking: number of tokens that were thought. Those that were thought during the last trial count.
        trials: number of tokens of all its trials.

    """

    is_right: bool
    thinking: int
    trials: int


def replay_exit(
    thought: TriedThought, trials: Sequence[RecordedTrial], scores: Sequence[float], threshold: float
) -> ReplayedExit:
    """End a thought at its first trial whose score reaches the threshold, unless its thinking has ended before the trial is there."""
    spent = 0
    for trial, score in zip(trials, scores, strict=True):
        spent += trial.tokens
        if score >= threshold and trial.decided <= thought.thinking:
            return ReplayedExit(trial.is_right, trial.decided, spent)
    return ReplayedExit(thought.is_right, thought.thinking, spent)


def replay_length(thought: TriedThought, trials: Sequence[RecordedTrial], tokens: float) -> ReplayedExit:
    """End a thought at the first transition behind so many tokens, whatever its trial answers are: a fixed budget, without trials."""
    for trial in trials:
        if tokens <= trial.num_thought <= thought.thinking:
            return ReplayedExit(trial.is_right, trial.num_thought, 0)
    return ReplayedExit(thought.is_right, thought.thinking, 0)


@dataclass(frozen=True, slots=True)
class ExitPerformance:
    """The outcome of a rule on each question, as means over its thoughts.

    Attributes:
        threshold: of the rule; None for one without.
        accuracy: (questions,).
        thinking: (questions,) tokens that were thought.
        trials: (questions,) tokens of trials.

    """

    threshold: float | None
    accuracy: Numbers
    thinking: Numbers
    trials: Numbers

    def share(self, whole: "ExitPerformance") -> tuple[float, float]:
        """Return the tokens that were thought and those of trials, as shares of the tokens of whole thinking."""
        all_tokens = max(float(whole.thinking.sum()), 1.0)
        return float(self.thinking.sum()) / all_tokens, float(self.trials.sum()) / all_tokens


class ExitReplays:
    """The tried thoughts of some questions, ready to be replayed with any threshold.

    Make one with `replays_of`.

    Args:
        thoughts: by question.
        scores: of the trials of each thought: by transitions and rule, whatever the threshold is compared with.

    Attributes:
        whole: the performance of whole thinking.

    """

    def __init__(
        self, thoughts: Sequence[Sequence[TriedThought]], scores: Mapping[tuple[str, str], Sequence[Sequence[Sequence[float]]]]
    ) -> None:
        self.thoughts = thoughts
        self._scores = scores
        self.whole = _performance(
            None, [[ReplayedExit(one.is_right, one.thinking, 0) for one in thoughts_of_one] for thoughts_of_one in thoughts]
        )

    def by_score(self, places: str, rule: str, threshold: float) -> ExitPerformance:
        """Return the performance of exits where a score reaches a threshold. Rules are the means, and `agreement 2` and so on."""
        outcomes = [
            [replay_exit(one, one.trials[places], score, threshold) for one, score in zip(some, their_scores, strict=True)]
            for some, their_scores in zip(self.thoughts, self._scores[places, rule], strict=True)
        ]
        return _performance(threshold, outcomes)

    def by_length(self, places: str, tokens: float) -> ExitPerformance:
        """Return the performance of a fixed length of the thinking."""
        return _performance(None, [[replay_length(one, one.trials[places], tokens) for one in some] for some in self.thoughts])

    def confidences(self, places: str, mean: Mean) -> list[float]:
        """Return the different confidences of all trials, rising."""
        return sorted({score for some in self._scores[places, mean] for scores in some for score in scores})

    def lengths(self, places: str) -> list[int]:
        """Return the different numbers of tokens before the trials, rising."""
        return sorted({trial.num_thought for some in self.thoughts for one in some for trial in one.trials[places]})


async def replays_of(thoughts: Sequence[TriedThought], equivalence: AnswerEquivalence) -> ExitReplays:
    """Prepare tried thoughts for many replays. Those of one question stand beside one another."""
    by_key: dict[str, list[TriedThought]] = {}
    for one in thoughts:
        by_key.setdefault(one.key, []).append(one)
    grouped = list(by_key.values())
    scores: dict[tuple[str, str], list[list[list[float]]]] = {}
    for places in PLACES:
        for mean in MEANS:
            scores[places, mean] = [
                [[_confidence(trial, mean) for trial in one.trials[places]] for one in some] for some in grouped
            ]
        for window in WINDOWS:
            scores[places, f"agreement {window}"] = [
                [await _agreements(one, places, window, equivalence) for one in some] for some in grouped
            ]
    return ExitReplays(grouped, scores)


def _performance(threshold: float | None, outcomes: Sequence[Sequence[ReplayedExit]]) -> ExitPerformance:
    return ExitPerformance(
        threshold,
        np.array([np.mean([one.is_right for one in some]) for some in outcomes]),
        np.array([np.mean([one.thinking for one in some]) for some in outcomes]),
        np.array([np.mean([one.trials for one in some]) for some in outcomes]),
    )


def _confidence(trial: RecordedTrial, mean: Mean) -> float:
    return NO_ANSWER if trial.answer is None else trial.confidences[mean]


async def _agreements(thought: TriedThought, places: str, window: int, equivalence: AnswerEquivalence) -> list[float]:
    """Return for each trial 1 where the last ones agree, else `NO_ANSWER`."""
    trials = [Trial(Candidate(0, one.text, (), "stop"), one.answer, 0.0) for one in thought.trials[places]]
    agreed = [await agree(trials[: num + 1], window, thought.kind, equivalence) for num in range(len(trials))]
    return [1.0 if one else NO_ANSWER for one in agreed]
