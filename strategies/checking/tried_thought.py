"""A thought that is tried while it goes on (`strategies.checking.trials`): what its branch wrote, where it was cut, and its answer."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace

from strategies.checking.thoughts import Thought
from strategies.checking.trials import Exit, Trials
from strategies.core.results import NodeState, TraceNode
from strategies.core.thinking import Thinking
from strategies.core.values import Candidate, TokenLogprob


@dataclass(slots=True)
class TriedThought:
    """One thought with its trials, and what became of it.

    Attributes:
        trials: of it.
        reply: what its branch has written in the end; None if it was not drawn.
        exit: where it was cut.
        answer: what was drawn behind the cut thought.
        final: the answer that came of it.

    """

    thought: Thought
    trials: Trials
    reply: asyncio.Future[Candidate | None]
    exit: Exit | None = None
    answer: Candidate | None = None
    final: Candidate | None = None

    def joined(self, reply: Candidate | None, thinking: Thinking) -> Candidate | None:
        """Return the thought up to its exit with the answer; what its branch wrote where it has no exit, or a better answer."""
        if reply is None or self.exit is None or self.answer is None:
            return reply if reply is None or reply.finish_reason != "step" else replace(reply, finish_reason="abort")
        answer, num, end_ids = self.answer, self.exit.transition.num_tokens, thinking.end_ids
        texts = (thinking.end, *[""] * (len(end_ids) - 1))
        closing = tuple(TokenLogprob(text, one, 0.0, is_inserted=True) for text, one in zip(texts, end_ids, strict=True))
        joined = replace(
            answer,
            text=self.thought.text_before(self.exit.transition) + thinking.end + answer.text,
            token_ids=(*reply.token_ids[:num], *end_ids, *answer.token_ids),
            logprobs=(*reply.logprobs[:num], *closing, *answer.logprobs),
            num_inserted=len(end_ids) + answer.num_inserted,
            num_thinking=num + len(end_ids),
            is_thinking=False,
        )
        return joined if joined.completeness >= reply.completeness else reply

    def nodes(self, number: int) -> Iterator[TraceNode]:
        """Yield a node for the thought, and below it one for each trial and one for the answer behind an exit."""
        reply = self.reply.result() if self.reply.done() else None
        if reply is None:
            return
        is_final = self.final is not None and self.final.index == number
        yield _node(reply, None, NodeState.FINAL if is_final else NodeState.PRUNED)
        for place, trial in enumerate(self.trials.drawn, 1):
            has_passed = self.exit is not None and place == len(self.trials.drawn) and trial.answer is not None
            state = NodeState.FINAL if has_passed else NodeState.PRUNED
            yield replace(_node(trial.candidate, number, state), score=trial.confidence, answer=trial.answer)
        if self.answer is not None:
            yield _node(self.answer, number, NodeState.PRUNED if is_final else NodeState.FINAL)


def _node(candidate: Candidate, parent: int | None, state: NodeState) -> TraceNode:
    return TraceNode(
        id=candidate.index,
        parent=parent,
        text=candidate.text,
        tokens=len(candidate.token_ids),
        state=state,
        finish_reason=candidate.finish_reason,
        cost=candidate.cost,
    )
