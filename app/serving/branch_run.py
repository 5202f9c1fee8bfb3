"""Runs one branch in the engine, and books its cost: a sample of a wave, or one token that is read for its log-probabilities."""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from adapters.ports import EngineAdapter
from app.admission import AdmittedRequest
from app.engine.base import Branch, Engine, Output
from app.metering.meter import Meter, Purpose, Reservation
from app.serving.branch_output import BranchOutput
from app.serving.legs import BEHIND, Place, ThinkingBudget
from app.serving.wave import BranchDefaults, Wave
from app.telemetry.spans import Span
from strategies.core.values import Candidate, Cost, TokenLogprob


@dataclass(frozen=True, slots=True)
class BranchRunner:
    """Runs the branches of one prompt with one adapter, for `app.serving.metered_model`.

    Attributes:
        engine: generates the tokens.
        meter: books the cost.
        admitted: hands out slots.
        defaults: what all branches of the prompt have in common.
        adapter: the adapter that answers, None for the base model.
        cache_salt: of the caller and the adapter.
        next_id: returns a new id for a branch.

    """

    engine: Engine
    meter: Meter
    admitted: AdmittedRequest
    defaults: BranchDefaults
    adapter: EngineAdapter | None
    cache_salt: str | None
    next_id: Callable[[], str]

    async def run(self, wave: Wave, index: int, reservation: Reservation, branch_id: str) -> Candidate | None:
        """Run one branch of a wave, in as many legs as it takes. Returns None where the engine returned no output."""
        output = BranchOutput(index, wave, reservation)
        reserved_at = time.monotonic()
        try:
            async with self.admitted.slot():
                self.meter.seconds.setdefault("queue", time.monotonic() - reserved_at)
                place = self._first_place(output)
                while place is not None:
                    await self._run_leg(wave, place, output, branch_id)
                    if (place := self._place_after(place, output)) is not None:
                        branch_id = self.next_id()
        finally:
            self.meter.branches["drawn"] += output.started
            if output.started and output.is_thinking_cut:
                self.meter.branches["thinking_cut"] += 1
            # The first token comes with the end of the prefill: without one, the engine did no work worth booking.
            generated = output.num_generated
            await self.meter.settle(
                output.reservation,
                cached=output.cached_tokens,
                generated=generated,
                ran=generated > 0,
                purpose=wave.purpose,
                drafts=output.drafts,
            )
            self.meter.tokens["thinking"] += max(output.count_thinking(self.engine.decode) - output.num_inserted, 0)
        if not output.started:
            return None
        output.end()
        granted = output.num_before + output.reservation.tokens
        if output.finish_reason == "length" and granted < wave.cap:
            self.meter.note_truncated(output.reservation)
        started, seconds = reserved_at - self.meter.started, time.monotonic() - reserved_at
        return output.candidate(granted, Cost(output.prefix_cached, output.flops, started, seconds))

    async def run_one_token(
        self, prefix: tuple[int, ...], reservation: Reservation, purpose: Purpose, span: Span, **fields: Any
    ) -> Output | None:
        """Run a branch of one token for its log-probabilities. `fields` are the fields of `Branch` that say which ones are read."""
        output: Output | None = None
        try:
            async with self.admitted.slot():
                branch = Branch(
                    id=self.next_id(), prompt=self.defaults.prompt, prefix=prefix, max_tokens=1,
                    priority=self.admitted.priority, cache_salt=self.cache_salt, image_salt=self.defaults.cache_salt,
                    adapter=self.adapter, **fields,
                )  # fmt: skip
                async with aclosing(self.engine.generate(branch)) as outputs:  # type: ignore[type-var]
                    async for output in outputs:  # noqa: B007 - the last one is kept
                        pass
        finally:
            cached = output.cached_tokens if output else 0
            if span.is_recording:
                span.set({"ponder.tokens.prefix": len(prefix), "ponder.tokens.cached": cached})
            await self.meter.settle(reservation, cached=cached, generated=1, ran=output is not None, purpose=purpose)
        return output

    async def _run_leg(self, wave: Wave, place: Place, output: BranchOutput, branch_id: str) -> None:
        # `MeteredModel` compares the task's name with `wave.live`, to find out whether the engine runs the branch.
        asyncio.current_task().set_name(branch_id)  # type: ignore[union-attr] # runs in a task of `MeteredModel.sample`
        wave.live.add(branch_id)
        try:
            branch = self._branch(wave, place, output, branch_id)
            async with aclosing(self.engine.generate(branch)) as parts:  # type: ignore[type-var]
                async for part in parts:
                    output.add(part)
                    if output.ends_early():
                        await self.engine.halt([branch_id])
        finally:
            wave.live.discard(branch_id)

    def _branch(self, wave: Wave, place: Place, output: BranchOutput, branch_id: str) -> Branch:
        reservation, mark = output.reservation, place.mark
        watched = () if mark is None or mark in self.defaults.prompt.stop else (mark,)
        return Branch(
            id=branch_id, prompt=self.defaults.prompt, prefix=(*wave.prefix, *output.token_ids),
            max_tokens=reservation.tokens if place.left is None else min(place.left, reservation.tokens),
            priority=self.admitted.priority, seed=self.defaults.seed_of(output.index, output.num_legs),
            num_logprobs=wave.num_logprobs, cache_salt=self.cache_salt, image_salt=self.defaults.cache_salt,
            is_streamed=wave.is_streamed, adapter=self.adapter,
            separators=wave.separators + watched, temperature=wave.temperature, repetition=wave.repetition,
        )  # fmt: skip

    def _first_place(self, output: BranchOutput) -> Place | None:
        """Return where the first leg begins. Where earlier steps have used up the budget, the end of the thinking is written first."""
        place, budget = output.wave.place, output.wave.budget
        return place if budget is None or place.left != 0 else self._begin_leg(output, budget, place)

    def _place_after(self, place: Place, output: BranchOutput) -> Place | None:
        """Return where the next leg begins, None where the branch has ended."""
        budget = output.wave.budget
        if budget is None:
            return None
        following = budget.after(place, output.leg, self._behind_prompt(output))
        return None if following is None else self._begin_leg(output, budget, following)

    def _begin_leg(self, output: BranchOutput, budget: ThinkingBudget, place: Place) -> Place | None:
        """Begin a leg at this place. Where the budget is used up, write the end of the thinking first, and begin behind it.

        Returns where the leg begins, None where the branch ends instead: there is no room, or it was told to end.
        """
        closing = budget.closing(self._behind_prompt(output)) if place.left == 0 else ()
        if closing and (stop := budget.stops_at_end) is not None:
            output.end("stop", stop)
            return None
        if output.wave.is_ending or output.ended_by is not None:
            output.end("abort")
            return None
        if output.reservation.tokens - output.num_generated <= len(closing):
            output.end("length")
            return None
        behind_mark = budget.behind_mark(output.leg)
        rest = self.meter.carry_on(
            output.reservation,
            cached=output.cached_tokens,
            generated=output.num_generated,
            inserted=len(closing),
            drafts=output.drafts,
        )
        inserted = [TokenLogprob(self.engine.decode([token]), token, 0.0, is_inserted=True) for token in closing]
        output.begin_leg(rest, behind_mark, tuple(inserted) if rest.tokens else ())
        if not rest.tokens:
            output.end("length")
            return None
        return BEHIND if closing else place

    def _behind_prompt(self, output: BranchOutput) -> tuple[int, ...]:
        return (*output.wave.prefix[len(self.defaults.prompt.token_ids) :], *output.token_ids)
