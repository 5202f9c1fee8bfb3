"""Joins the outputs of one branch to a candidate."""

import itertools

from app.engine.base import Output
from app.serving.wave import Wave
from strategies.core.values import Candidate, Cost, Delta


class BranchOutput:
    """The outputs of one branch of a wave, from the first to the last.

    Attributes:
        cached_tokens: the number of the prefix's tokens that the engine found in its cache.
        num_generated: the number of tokens that were generated so far.
        finish_reason: the finish reason that the engine gave, None while the branch runs.

    """

    def __init__(self, index: int, wave: Wave) -> None:
        self._index = index
        self._wave = wave
        self._outputs: list[Output] = []
        self._step_ended = False
        self._text = ""
        self.cached_tokens = 0
        self.num_generated = 0
        self.finish_reason: str | None = None

    @property
    def started(self) -> bool:
        """Whether the engine has returned any output of the branch."""
        return bool(self._outputs)

    def add(self, output: Output) -> None:
        """Add the next output, and pass it on as a delta."""
        self._outputs.append(output)
        self.cached_tokens = max(self.cached_tokens, output.cached_tokens)
        self.num_generated += len(output.token_ids)
        self.finish_reason = output.finish_reason
        if self._wave.on_delta is not None:
            delta = Delta(self._index, output.text, output.token_ids, output.logprobs, output.finish_reason, output.stop_reason)
            self._wave.on_delta(delta)

    def ends_step(self) -> bool:
        """Return whether the wave's `until` became true with the last output. True is returned only once, so that the halt is sent once."""
        if self._wave.until is None or self._step_ended or self.finish_reason is not None:
            return False
        self._text += self._outputs[-1].text
        self._step_ended = self._wave.until(self._text)
        return self._step_ended

    def candidate(self, granted_tokens: int, cost: Cost) -> Candidate:
        """Return the candidate; at least one output was added. `granted_tokens` is what the branch could generate at most."""
        # Without a stream the engine returns one output for each branch, so there is nothing to join.
        if len(self._outputs) == 1:
            [only] = self._outputs
            text, token_ids, logprobs = only.text, only.token_ids, only.logprobs
        else:
            text = "".join(output.text for output in self._outputs)
            token_ids = tuple(itertools.chain.from_iterable(output.token_ids for output in self._outputs))
            logprobs = tuple(itertools.chain.from_iterable(output.logprobs for output in self._outputs))
        last = self._outputs[-1]
        return Candidate(
            self._index, text, token_ids, self._finish_reason(granted_tokens), last.stop_reason, logprobs, cost=cost
        )

    def _finish_reason(self, granted_tokens: int) -> str:
        """Return the engine's finish reason, or "step" where the end of a step was the cause. The engine knows no steps."""
        wave, last = self._wave, self._outputs[-1]
        reason = last.finish_reason or "abort"
        is_separated = reason == "stop" and last.stop_reason in wave.separators
        is_full_step = reason == "length" and granted_tokens == wave.cap < wave.limit
        is_halted_step = reason == "abort" and self._step_ended
        return "step" if is_separated or is_full_step or is_halted_step else reason
