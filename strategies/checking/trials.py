"""Trial answers: whether a thought may end at a transition, tried while it goes on.

Behind what was thought before the transition, an inducer opens the answer, and a few tokens are drawn greedily. DEER (Yang et al. 2025,
arXiv 2504.15895) ends the thinking where the model is sure of these tokens; Certaindex (Fu et al. 2024, arXiv 2412.20993) where the last
trial answers are the same and none of them hesitates.

What is tried and what passes does not depend on how fast branches are. A trial counts as taking one step for each of its tokens, during
which the thought goes on by as many tokens: it can end only a thinking that was still going on then. The next trial begins at the latest
transition `max_tokens` tokens after the last one began.
"""

import math
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from strategies.answers.reading import read_answer
from strategies.checking.thoughts import Thought, Transition
from strategies.core.ports import AnswerEquivalence, Model
from strategies.core.values import AnswerKind, Candidate, Delta, Draw, Step, Task

INDUCERS = {
    AnswerKind.MATH: "\n\n#### ",
    AnswerKind.CHOICE: "\n\nThe answer is (",
    AnswerKind.TEXT: "\n\n",
    AnswerKind.OPEN: "\n\n",
}
"""The text that opens a trial answer behind the end of the thinking, by the kind of answer. The other kinds have no trial answers."""

HESITATION = re.compile(r"\b(?:wait|hold|but|okay|no|hmm)\b", re.IGNORECASE)
"""Certaindex's words of a model that is not certain (`dynasor/core/cot.py`)."""

Mean = Literal["mean", "geometric", "minimum"]


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial answer.

    Attributes:
        answer: in canonical form; None if none can be read.
        confidence: of its tokens, in [0, 1].
        num_thought: number of tokens that were thought before it.
        decided: number of tokens that the thought has once the trial is there. A shorter thinking has ended before.

    """

    candidate: Candidate
    answer: str | None
    confidence: float
    num_thought: int = 0
    decided: int = 0

    @property
    def hesitates(self) -> bool:
        """Whether the model is not certain, by its words."""
        return HESITATION.search(self.candidate.text) is not None

    def is_sure(self, threshold: float) -> bool:
        """Whether it has an answer with that confidence."""
        return self.answer is not None and self.confidence >= threshold


@dataclass(frozen=True, slots=True)
class Exit:
    """Where a thought is cut, and the confidence of the trial that passed there."""

    transition: Transition
    confidence: float


@dataclass(frozen=True, slots=True)
class TrialRule:
    """How trial answers are drawn, and when they end a thinking.

    Attributes:
        inducer: opens the answer.
        max_tokens: of a trial answer.
        mean: of the probabilities of its tokens, which is its confidence.
        passes: returns whether the last of these trials ends the thinking.

    """

    inducer: str
    max_tokens: int
    mean: Mean
    passes: Callable[[Sequence[Trial]], Awaitable[bool]]


class Trials:
    """The trials of one thought, one at a time.

    Args:
        task: that the thought is to answer.
        model: draws the trials.
        thought: goes on while they are drawn.
        rule: of these trials.
        index: returns the index of what the thought draws after so many trials.
        report: is called with each trial.

    Attributes:
        drawn: the trials so far, in the order of their transitions.

    """

    def __init__(
        self,
        task: Task,
        model: Model,
        thought: Thought,
        rule: TrialRule,
        *,
        index: Callable[[int], int],
        report: Callable[[Trial], None],
    ) -> None:
        self._task, self._model, self._thought, self._rule = task, model, thought, rule
        self._index, self._report = index, report
        self.drawn: list[Trial] = []

    async def find_exit(self) -> Exit | None:
        """Try the transitions of the thought until a trial passes. Returns None if the thinking ends before."""
        thought, tried, due = self._thought, 0, 0
        while (transition := await thought.next_transition(tried, due)) is not None:
            begin = max(due, transition.seen)
            if thought.has_ended or self._model.stopped is not None:
                return None
            trial = await self._try(transition, begin)
            if trial is None:
                return None
            self.drawn.append(trial)
            self._report(trial)
            if await self._rule.passes(self.drawn) and await thought.reaches(trial.decided):
                return Exit(transition, trial.confidence)
            tried, due = transition.num_tokens, begin + self._rule.max_tokens
        return None

    async def _try(self, transition: Transition, begin: int) -> Trial | None:
        """Draw a trial answer. It ends as soon as it is sure to come too late.

        Where the reply was whole before the trial had begun, for want of a slot or of budget, it has no answer. None if nothing was drawn.
        """
        thought, num_tokens, is_late = self._thought, 0, False

        def count(delta: Delta) -> None:
            nonlocal num_tokens, is_late
            is_late = is_late or (num_tokens == 0 and thought.has_ended)
            num_tokens += len(delta.token_ids)

        def is_hopeless(_text: str) -> bool:
            return is_late or (thought.is_over and begin + num_tokens > thought.num_thought)

        ids, end_ids = thought.token_ids[: transition.num_tokens], self._task.thinking.end_ids if self._task.thinking else ()
        draw = Draw(
            (*self._task.prefix, *ids, *end_ids, *self._task.encode(self._rule.inducer)),
            1,
            first_index=self._index(len(self.drawn)),
            num_logprobs=0,
            step=Step(("\n",), until=is_hopeless),
            max_tokens=self._rule.max_tokens,
            temperature=0.0,
            on_delta=count,
            needs_deltas=True,
            is_check=True,
        )
        async with self._model.sample(draw) as samples:
            drawn = [candidate async for candidate in samples]
        if not drawn:
            return None
        trial = replace(
            read_trial(self._task, self._rule.inducer, drawn[0], self._rule.mean),
            num_thought=transition.num_tokens,
            decided=begin + len(drawn[0].token_ids),
        )
        return replace(trial, confidence=0.0, answer=None) if is_late else trial


def read_trial(task: Task, inducer: str, candidate: Candidate, mean: Mean) -> Trial:
    r"""Return a trial answer with its confidence: DEER's mean of the probabilities of its tokens.

    The white space and the token that end it do not count. Where the inducer opens a brace, as of `\boxed{`, the answer ends with the one
    that closes it.
    """
    depth, text, num = inducer.count("{") - inducer.count("}"), "", 0
    for place, entry in enumerate(candidate.logprobs, 1):
        if entry.token_id in task.end_tokens:
            break
        text += entry.token
        num = place if entry.token.strip() else num
        if 0 < depth <= text.count("}") - text.count("{"):
            break
    answer = text.strip() or None
    if answer is not None and task.kind is not AnswerKind.OPEN:
        answer = read_answer(task.kind, inducer + text)
    return Trial(candidate, answer, confidence([entry.logprob for entry in candidate.logprobs[:num]], mean))


def confidence(logprobs: Sequence[float], mean: Mean) -> float:
    """Return the arithmetic or geometric mean, or the minimum, of the probabilities of tokens; 0 for none."""
    if not logprobs:
        return 0.0
    if mean == "minimum":
        return math.exp(min(logprobs))
    if mean == "geometric":
        return math.exp(math.fsum(logprobs) / len(logprobs))
    return math.fsum(map(math.exp, logprobs)) / len(logprobs)


async def agree(trials: Sequence[Trial], window: int, kind: AnswerKind, equivalence: AnswerEquivalence) -> bool:
    """Return whether the last `window` trials have the same answer, and none of them hesitates."""
    last = trials[-window:]
    if len(last) < window or any(one.hesitates for one in last):
        return False
    first = last[0].answer
    for one in last:
        if first is None or one.answer is None or not await equivalence.same(kind, first, one.answer):
            return False
    return True
