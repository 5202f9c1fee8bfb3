"""Joins the outputs of one branch to a candidate."""

import itertools
from dataclasses import replace

from app.engine.base import Output
from app.engine.speculation import NO_DRAFTS
from app.metering.meter import Reservation
from app.serving.places import Event, Leg, Place, TakenBack
from app.serving.thinking_tokens import Decode, num_thinking
from app.serving.wave import Wave
from strategies.core.values import Candidate, Cost, Delta, TokenLogprob


class BranchOutput:
    """The outputs of one branch of a wave, from the first to the last.

    A branch with a budget for thinking is generated in legs (`app.serving.legs`). Its stream shows one piece of text.

    Attributes:
        index: of the candidate.
        wave: of the branch.
        budget: for its thinking; that of the wave, or less.
        reservation: of the current leg.
        num_legs: the number of legs before the current one.
        num_before: the number of tokens before the current leg.
        cached_tokens: the number of the prefix's tokens that the engine found in its cache, in the current leg.
        num_generated: the number of tokens that the current leg has generated so far.
        finish_reason: the finish reason that the engine gave, None while the branch runs.
        drafts: of the current leg, once it has ended.
        started: whether the engine has returned any output of the branch.
        events: what the server has done to its thinking.
        num_inserted: the number of tokens that the server wrote for it.
        num_recomputed: tokens that were computed again, since a part of the engine failed.
        ended_by: "step" once the wave's `until` has ended the branch, "cut" once its `watch` has; None before.

    """

    def __init__(self, index: int, wave: Wave, reservation: Reservation) -> None:
        self.index = index
        self.wave = wave
        self.budget = wave.budget
        self.reservation = reservation
        self.num_legs = self.num_before = 0
        self.cached_tokens = self.num_generated = 0
        self.finish_reason: str | None = None
        self.drafts = NO_DRAFTS
        self.started = False
        self.events: list[Event] = []
        self._outputs: list[Output] = []
        self._held: list[Output] = []  # the last outputs, which wait to be passed on
        self._num_withheld = 0
        self._num_in_legs = 0  # outputs before the current leg
        self.num_inserted = self.num_recomputed = self._num_thinking = 0
        self._flops_before = 0
        self.ended_by: str | None = None
        self._watch = None if wave.watch is None else wave.watch()
        self._text = ""

    @property
    def prefix_cached(self) -> int:
        """The number of the branch's own prefix that the engine found in its cache."""
        return self._outputs[0].cached_tokens if self._outputs else 0

    @property
    def flops(self) -> int:
        """The FLOPs of all legs so far."""
        held = self.reservation
        return self._flops_before + sum(held.cost(self.cached_tokens, self.num_generated, self.drafts))

    @property
    def token_ids(self) -> tuple[int, ...]:
        """All tokens so far."""
        return tuple(itertools.chain.from_iterable(output.token_ids for output in self._outputs))

    @property
    def leg(self) -> Leg:
        """What the current leg generated."""
        outputs = self._outputs[self._num_in_legs :]
        token_ids = tuple(itertools.chain.from_iterable(output.token_ids for output in outputs))
        stop_reason = outputs[-1].stop_reason if outputs else None
        return Leg("".join(output.text for output in outputs), token_ids, self.finish_reason, stop_reason)

    def withhold(self, tokens: int) -> None:
        """Let the outputs of the current leg wait until so many tokens stand behind them: the end of the leg may be taken back."""
        self._num_withheld = tokens

    def add(self, output: Output) -> None:
        """Add the next output, and pass it on as a delta. The last one of a leg waits for `begin_leg` or `end`."""
        self.started = True
        self._outputs.append(output)
        self.cached_tokens = max(self.cached_tokens, output.cached_tokens)
        self.num_generated += len(output.token_ids)
        self.num_recomputed += output.recomputed_tokens
        self.finish_reason, self.drafts = output.finish_reason, output.drafts
        self._held.append(output)
        is_last = self.finish_reason is not None and self.budget is not None
        while len(self._held) > is_last and sum(len(one.token_ids) for one in self._held[1:]) >= self._num_withheld:
            self._pass_on(self._held.pop(0))

    def _pass_on(self, output: Output) -> None:
        if self.wave.until is not None:
            text, self._text = self._text, ""  # what nothing else holds, CPython appends to in place: linear time
            text += output.text
            self._text = text
        if self.wave.on_delta is not None:
            delta = Delta(self.index, output.text, output.token_ids, output.logprobs, output.finish_reason, output.stop_reason)
            self.wave.on_delta(delta)

    def begin_leg(self, reservation: Reservation, place: Place, behind_mark: str, inserted: tuple[TokenLogprob, ...]) -> None:
        """Begin the next leg of the branch.

        Args:
            reservation: of the new leg.
            place: where it begins.
            behind_mark: text of the last leg's tokens that the engine left out.
            inserted: tokens that the server writes before the new leg.

        """
        if place.taken_back is not None:
            self._take_back(place.taken_back)
        if self._held:
            last = self._held.pop()
            last = replace(last, text=last.text + behind_mark, finish_reason=None, stop_reason=None)
            self._outputs[-1] = last
            self._flush(last)
        if self.num_generated:
            self._flops_before = self.flops
        if inserted:
            text, token_ids = "".join(one.token for one in inserted), tuple(one.token_id for one in inserted)
            logprobs = inserted if self.wave.num_logprobs is not None else ()
            self._outputs.append(Output(text, token_ids, 0, 0, logprobs=logprobs))
            self._pass_on(self._outputs[-1])
            self.num_inserted += len(inserted)
            if place.event is not None:
                self.events.append(place.event)
        self.num_legs += 1
        self.num_before += self.num_generated + len(inserted)
        self._num_in_legs = len(self._outputs)
        self.reservation = reservation
        self.cached_tokens = self.num_generated = 0
        self.drafts, self.finish_reason = NO_DRAFTS, None

    def _take_back(self, taken: TakenBack) -> None:
        """Take the end of the leg back, which is still held. Its tokens were generated, and are counted as such."""
        token_ids = tuple(itertools.chain.from_iterable(one.token_ids for one in self._held))[: -taken.tokens]
        text = "".join(one.text for one in self._held)[: -taken.chars]
        logprobs = tuple(itertools.chain.from_iterable(one.logprobs for one in self._held))[: len(token_ids)]
        kept = replace(self._held[-1], text=text, token_ids=token_ids, logprobs=logprobs)
        self._outputs[-len(self._held) :] = [kept]
        self._held = [kept]

    def _flush(self, *last: Output) -> None:
        """Pass on what waits, and then these."""
        held, self._held = self._held, []
        for output in (*held, *last):
            self._pass_on(output)

    def end(self, finish_reason: str | None = None, stop_reason: str | None = None) -> None:
        """End the branch, with these reasons instead of the last leg's where there are any."""
        if finish_reason is not None and self.started:
            self.finish_reason = finish_reason
            last = self._held.pop() if (is_held := bool(self._held)) else Output("", (), 0, 0)
            last = replace(last, finish_reason=finish_reason, stop_reason=stop_reason)
            self._outputs[-1 if is_held else len(self._outputs) :] = [last]
            self._held.append(last)
        self._flush()

    def ends_early(self) -> bool:
        """Return whether the last output ends the branch by the wave's `until` or `watch`, so that the engine must halt it: only once."""
        if self.ended_by is not None:
            return False
        last = self._outputs[-1]
        if self._watch is not None and self._watch(last.logprobs):
            self.ended_by = "cut"
        elif self.wave.until is not None and self.finish_reason is None:
            self.ended_by = "step" if self.wave.until(self._text) else None
        return self.ended_by is not None and self.finish_reason is None

    def count_thinking(self, decode: Decode) -> int:
        """Count how many of all tokens so far are thinking, keep the number for `candidate`, and return it."""
        if self.wave.thinking is not None and self._outputs:
            text = "".join(output.text for output in self._outputs)
            self._num_thinking = num_thinking(self.wave.thinking, text, self.token_ids, decode)
        return self._num_thinking

    def candidate(self, granted_tokens: int, cost: Cost) -> Candidate:
        """Return the candidate, after at least one output. `granted_tokens` are the most tokens that the branch could have had."""
        # Without a stream the engine returns one output for each leg, so there is mostly nothing to join.
        if len(self._outputs) == 1:
            [only] = self._outputs
            text, token_ids, logprobs = only.text, only.token_ids, only.logprobs
        else:
            text = "".join(output.text for output in self._outputs)
            token_ids = self.token_ids
            logprobs = tuple(itertools.chain.from_iterable(output.logprobs for output in self._outputs))
        return Candidate(
            self.index, text, token_ids, self._finish_reason(granted_tokens), self._outputs[-1].stop_reason, logprobs,
            num_inserted=self.num_inserted, is_thinking_cut="cut" in self.events, num_thinking=self._num_thinking,
            is_thinking=self.wave.thinking is not None and self.wave.thinking.is_inside(text), cost=cost,
        )  # fmt: skip

    def _finish_reason(self, granted_tokens: int) -> str:
        """Return the engine's finish reason, or "step" where the end of a step was the cause. The engine knows no steps."""
        wave, last = self.wave, self._outputs[-1]
        reason = last.finish_reason or "abort"
        is_separated = reason == "stop" and last.stop_reason in wave.separators
        is_full_step = reason == "length" and granted_tokens == wave.cap < wave.limit
        if reason == "abort" and self.ended_by is not None:
            return self.ended_by
        return "step" if is_separated or is_full_step else reason
