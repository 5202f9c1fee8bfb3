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
from app.metering.meter import Meter, Purpose, Reservation, ThinkingShare
from app.serving.branch_output import BranchOutput
from app.serving.inserted import inserted
from app.serving.legs import ThinkingBudget
from app.serving.places import Place, Room
from app.serving.wave import BranchDefaults, Wave
from app.telemetry.spans import Span
from strategies.core.values import Candidate, Cost


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
        can_think = wave.budget is not None and wave.place.mark is not None
        with self.meter.thinking(self.admitted.width, reservation.tokens if can_think else 0) as share:
            return await self._run(wave, BranchOutput(index, wave, reservation), share, branch_id)

    async def _run(self, wave: Wave, output: BranchOutput, share: ThinkingShare, branch_id: str) -> Candidate | None:
        output.budget = wave.budget and wave.budget.within(wave.place, share.tokens)
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
            if output.started:
                self.meter.branches.update(f"thinking_{event}" for event in output.events)
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
            if output.num_recomputed:
                self.meter.lose(output.reservation, output.num_recomputed)
            share.used = max(output.count_thinking(self.engine.decode) - output.num_inserted, 0)
            self.meter.tokens["thinking"] += share.used
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
        output.withhold(output.budget.longest_end if output.budget is not None and output.budget.can_extend(place) else 0)
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
        reservation = output.reservation
        marks = place.breaks if place.mark is None else (place.mark, *place.breaks)
        watched = tuple(mark for mark in marks if mark not in (*self.defaults.prompt.stop, *wave.separators))
        return Branch(
            id=branch_id, prompt=self.defaults.prompt, prefix=(*wave.prefix, *output.token_ids),
            max_tokens=reservation.tokens if place.left is None else min(place.left, reservation.tokens),
            priority=self.admitted.priority, seed=self.defaults.seed_of(output.index, output.num_legs),
            num_logprobs=wave.num_logprobs, cache_salt=self.cache_salt, image_salt=self.defaults.cache_salt,
            is_streamed=wave.is_streamed, adapter=self.adapter,
            separators=wave.separators + watched, temperature=wave.temperature, repetition=wave.repetition,
        )  # fmt: skip

    def _first_place(self, output: BranchOutput) -> Place | None:
        """Return where the first leg begins, None where the branch ends before it. Earlier steps may have used up the budget."""
        place, budget = output.wave.place, output.budget
        if budget is None:
            return place
        place = budget.begin(place, self._answer_so_far(output), self._room(output))
        return self._begin_leg(output, budget, place) if place.event is not None else place

    def _place_after(self, place: Place, output: BranchOutput) -> Place | None:
        """Return where the next leg begins, None where the branch has ended."""
        budget, leg = output.budget, output.leg
        if budget is None or leg.stop_reason in output.wave.separators:
            return None
        token_ids, room = self._answer_so_far(output), self._room(output)
        following = budget.after(place, leg, token_ids, room)
        if following is None:
            return None
        if following.taken_back is not None:
            token_ids = (*token_ids[: -following.taken_back.tokens], *following.written)
        return self._begin_leg(output, budget, budget.begin(following, token_ids, room))

    def _begin_leg(self, output: BranchOutput, budget: ThinkingBudget, place: Place) -> Place | None:
        """Begin a leg at this place, behind what the server writes there.

        Returns where the leg begins, None where the branch ends instead: there is no room, or it was told to end.
        """
        if place.event == "cut" and (stop := budget.stops_at_end) is not None:
            output.end("stop", stop)
            return None
        if output.wave.is_ending or output.ended_by is not None:
            output.end("abort")
            return None
        if output.reservation.tokens - output.num_generated <= len(place.written):
            output.end("length")
            return None
        behind_mark = "" if place.taken_back else budget.behind_mark(output.leg)
        rest = self.meter.carry_on(
            output.reservation,
            cached=output.cached_tokens,
            generated=output.num_generated,
            inserted=len(place.written),
            dropped=place.taken_back.tokens if place.taken_back else 0,
            purpose=output.wave.purpose,
            drafts=output.drafts,
        )
        output.begin_leg(rest, place, behind_mark, inserted(place.written, self.engine.decode) if rest.tokens else ())
        if not rest.tokens:
            output.end("length")
            return None
        return place

    def _room(self, output: BranchOutput) -> Room:
        """Return what is left for the branch. Later steps have the rest of the answer, unless a budget is used up with this one."""
        wave, left = output.wave, output.reservation.tokens - output.num_generated
        is_step = wave.cap < wave.limit and output.reservation.limit is None
        return Room(wave.limit - output.num_before - output.num_generated if is_step else left, left)

    def _answer_so_far(self, output: BranchOutput) -> tuple[int, ...]:
        return (*output.wave.prefix[output.wave.answer_start :], *output.token_ids)
