"""The `Model` that strategies use: an engine behind a meter, an admitted request and a deadline.

It relieves strategies of this work: one engine branch for each sample, seeds, slots, cancellation of branches that still run, and the
counting of every token, including those of branches that were ended early.
"""

import asyncio
import copy
import itertools
import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from adapters.leases import Lease
from adapters.version import AdapterVersion
from app.admission import AdmittedRequest
from app.engine.base import Engine, PromptLogprobs, Repetition
from app.errors import EngineFailed, PonderError, first_error
from app.metering.meter import Meter, Purpose, Reservation
from app.serving.branch_run import BranchRunner
from app.serving.guests import Guest
from app.serving.leasing import Leases
from app.serving.legs import thinking_budget
from app.serving.places import BEHIND
from app.serving.wave import BranchDefaults, Wave
from app.telemetry.branch_spans import in_spans
from app.telemetry.spans import NO_SPAN, Span
from strategies.core.errors import VerifierFailed
from strategies.core.thinking import Thinking
from strategies.core.values import Candidate, Draw, StopReason, VerifierPrompt

HALT_GRACE_S = 1.0
"""Seconds in which a halted branch must return what it generated. After that it is cancelled and its output is lost."""


class MeteredModel:
    """`strategies.core.ports.Model` for one prompt of a request.

    Args:
        engine: generates the tokens and the log-probabilities.
        meter: the request's meter, which refuses what the budget does not allow.
        admitted: the request's place in the admission, which hands out slots.
        defaults: what all branches have in common.
        leases: the leases on the request's adapters. The generator's adapter is used until `using` chooses another one.
        guests: other models that take part in the request, by name.
        span: parent of the spans of waves, branches and scores.

    """

    def __init__(
        self,
        engine: Engine,
        meter: Meter,
        admitted: AdmittedRequest,
        defaults: BranchDefaults,
        *,
        leases: Leases,
        guests: Mapping[str, Guest] | None = None,
        span: Span = NO_SPAN,
    ) -> None:
        self._engine = engine
        self._meter = meter
        self._admitted = admitted
        self._defaults = defaults
        self._leases = leases
        self._guests = guests or {}
        self._guest: Guest | None = None
        self._host = engine.card.name
        self._serials = itertools.count()
        self._budget = thinking_budget(engine, defaults.prompt, meter.budget, has_tools=defaults.has_tools)
        self.span = span
        self._use(leases.generator)

    def _use(self, lease: Lease | None) -> None:
        self._adapter = None if lease is None else lease.adapter
        self._architecture = self._engine.card.architecture_with(None if lease is None else lease.version)
        self._verifier_prompt = None if lease is None else _verifier_prompt(lease.version)
        salts = [self._defaults.cache_salt, lease and lease.cache_salt]
        self._cache_salt = ":".join(salt for salt in salts if salt) or None
        self._runner = BranchRunner(
            self._engine, self._meter, self._admitted, self._defaults, self._adapter, self._cache_salt, self._next_id
        )

    def using(self, adapter: str) -> "MeteredModel":
        """Return this model with another adapter of the request; see `strategies.core.ports.Model.using`."""
        other = copy.copy(self)
        other._use(self._leases.verifiers[adapter])
        return other

    def asking(self, model: str) -> "MeteredModel":
        """Return another model of the server; see `strategies.core.ports.Model.asking`."""
        guest = self._guests[model]
        other = copy.copy(self)
        other._engine, other._admitted, other._guest, other._budget = guest.engine, guest.admitted, guest, None
        _, _, number = self._defaults.id_prefix.partition("-")
        # Ids are unique in the engine that the guest runs on, where its place in the admission is.
        other._defaults = replace(self._defaults, id_prefix=f"{guest.admitted.serial}-{number}", prompt=guest.prompt)
        other._use(guest.lease)
        return other

    async def prompt_of(self, text: str) -> tuple[int, ...]:
        """Return the prompt of a text; see `strategies.core.ports.OtherModel`. Only what `asking` has returned is asked so."""
        assert self._guest is not None
        return await self._guest.ask(text)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text; see `strategies.core.ports.OtherModel`."""
        return self._engine.encode(text)

    def within(self, span: Span) -> "MeteredModel":
        """Return this model with another parent for its spans."""
        other = copy.copy(self)
        other.span = span
        return other

    @property
    def verifier_prompt(self) -> VerifierPrompt | None:
        """The prompt that the adapter in use was trained to answer as a verifier, None where it has none."""
        return self._verifier_prompt

    @property
    def deadline(self) -> float | None:
        """When the request's time is over, on the event loop's clock; None for never."""
        return self._meter.deadline

    @property
    def tokens_left(self) -> int | None:
        """How many tokens of the budget are neither spent nor reserved; see `strategies.core.ports.Model.tokens_left`."""
        return self._meter.tokens_left

    @property
    def stopped(self) -> StopReason | None:
        """The budget that is used up, None while no budget is used up."""
        if self._meter.stopped is None and self.deadline is not None and time.monotonic() >= self.deadline:
            return StopReason.SECONDS
        return self._meter.stopped

    @asynccontextmanager
    async def sample(self, draw: Draw) -> AsyncIterator[AsyncIterator[Candidate]]:
        """Draw continuations together; see `strategies.core.ports.Model.sample`."""
        wave = self._wave(draw)
        n = draw.n if wave.limit > 0 else 0
        with self.span.child("wave") as wave.span:
            if wave.span.is_recording:
                wave.span.set({"ponder.wave.branches": n, "ponder.tokens.prefix": len(wave.prefix)})
            branch = in_spans(wave.span, self._branch) if wave.span.is_recording else self._branch
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(branch(wave, draw.first_index + i)) for i in range(n)]
                    try:
                        yield self._arrivals(wave, tasks)
                    finally:
                        await self._end(wave, tasks)
            except BaseExceptionGroup as errors:
                # All branches fail for the same reason (a refused request, a dead engine), so the first error is enough.
                raise first_error(errors) from None

    def _wave(self, draw: Draw) -> Wave:
        prefix, step, prompt = draw.prefix, draw.step, self._defaults.prompt
        answer_start = len(prompt.token_ids) if draw.answer_start is None else draw.answer_start
        begun = prefix[answer_start:]
        max_tokens = prompt.max_tokens - len(begun) if draw.max_tokens is None else draw.max_tokens
        limit = min(max_tokens, self._engine.card.max_model_len - len(prefix))
        cap = limit if step.max_tokens is None else min(step.max_tokens, limit)
        return Wave(
            prefix=prefix,
            answer_start=answer_start,
            limit=limit,
            cap=cap,
            share=self._meter.fair_share(cap, draw.n),
            # The caller's own stop strings end the answer, and not only a step.
            separators=tuple(separator for separator in step.separators if separator not in prompt.stop),
            num_logprobs=draw.num_logprobs,
            on_delta=draw.on_delta if self._defaults.is_streamed or draw.needs_deltas else None,
            purpose=Purpose.VERIFY if draw.is_check else Purpose.GENERATE,
            until=step.until,
            watch=step.watch,
            temperature=draw.temperature,
            repetition=Repetition() if draw.ends_loops else None,
            budget=self._budget,
            place=BEHIND if self._budget is None else self._budget.place(begun),
            thinking=self._thinking_behind(begun),
        )

    def _thinking_behind(self, begun: tuple[int, ...]) -> Thinking | None:
        """Return how branches that continue an answer which begins with these tokens mark their thinking."""
        thinking = self._defaults.prompt.thinking
        return thinking if thinking is None or not begun else thinking.behind(self._engine.decode(begun))

    async def _arrivals(self, wave: Wave, tasks: list[asyncio.Task[Candidate | None]]) -> AsyncIterator[Candidate]:
        """Yield candidates as they complete. At the deadline, end the branches that still run and yield what they have generated."""
        for _ in tasks:
            try:
                # The time-out encloses only the wait. If it enclosed the `yield`, it would cancel the code that consumes the candidates.
                async with asyncio.timeout_at(self._meter.deadline):
                    candidate = await wave.arrived.get()
            except TimeoutError:
                break
            if candidate is not None:
                yield candidate
        else:
            return
        await self._meter.expire()
        await self._end(wave, tasks)
        while not wave.arrived.empty():
            if (candidate := wave.arrived.get_nowait()) is not None:
                yield candidate

    async def _end(self, wave: Wave, tasks: list[asyncio.Task[Candidate | None]]) -> None:
        """End the branches that still run. A branch in the engine is halted, not cancelled, so that its tokens are counted."""
        running = [task for task in tasks if not task.done()]
        if not running:
            return
        self._meter.branches["cancelled"] += len(running)
        wave.is_ending = True
        for task in running:
            if task.get_name() not in wave.live:
                task.cancel()
        await self._engine.halt(list(wave.live))
        _, late = await asyncio.wait(running, timeout=HALT_GRACE_S)
        for task in late:
            task.cancel()

    async def _branch(self, wave: Wave, index: int) -> Candidate | None:
        branch_id = self._next_id()
        # `_end` compares the task's name with `wave.live`, to find out whether the engine runs the branch.
        asyncio.current_task().set_name(branch_id)  # type: ignore[union-attr] # runs in a task of `sample`
        reservation = await self._reserve(wave.prefix, wave.share)
        candidate = None if reservation is None else await self._runner.run(wave, index, reservation, branch_id)
        wave.arrived.put_nowait(candidate)
        return candidate

    async def _reserve(self, prefix: Sequence[int], wanted: int) -> Reservation | None:
        """Reserve tokens behind a prefix, at the cost of the model in use with the images that are in it."""
        reading = self._architecture.with_images(self._defaults.prompt.images_in(prefix))
        card = self._engine.card
        guest = None if self._guest is None or card.name == self._host else (card.name, card.speculation)
        return await self._meter.reserve(len(prefix), wanted, reading, guest)

    def spend(self, tokens: int, flops: int) -> bool:
        """Book a verification that was computed elsewhere; see `strategies.core.ports.Model.spend`."""
        return self._meter.spend(tokens, flops)

    async def score_options(self, prefix: Sequence[int], options: Sequence[int]) -> list[float]:
        """Return the log-probability of each option as the next token; see `strategies.core.ports.Model.score_options`."""
        try:
            with self.span.child("score") as span:
                return await self._score_options(prefix, options, span)
        except PonderError as error:
            if self._guest is None:
                raise
            raise VerifierFailed(f"{self._engine.card.name} does not answer") from error

    async def _score_options(self, prefix: Sequence[int], options: Sequence[int], span: Span) -> list[float]:
        has_room = len(prefix) < self._engine.card.max_model_len
        reservation = await self._reserve(prefix, 1) if has_room else None
        if reservation is None:
            return [0.0] * len(options)
        output = await self._runner.run_one_token(tuple(prefix), reservation, Purpose.VERIFY, span, options=tuple(options))
        found = [output.option_logprobs.get(option, math.nan) for option in options] if output else [math.nan]
        if any(map(math.isnan, found)):
            raise EngineFailed("The engine computed no probabilities.")
        return found

    async def score_prompt(self, num_top: int) -> PromptLogprobs:
        """Return the log-probabilities of the prompt's tokens, each with its `num_top` most probable alternatives.

        The engine computes the whole prompt for it, and generates one token, which is counted and dropped. Empty where the budget has no
        room, or its seconds run out.
        """
        prefix = self._defaults.prompt.token_ids
        with self.span.child("score_prompt") as span:
            reservation = await self._reserve(prefix, 1)
            if reservation is None:
                return ()
            try:
                async with asyncio.timeout_at(self._meter.deadline):
                    output = await self._runner.run_one_token(
                        prefix, reservation, Purpose.SCORE_PROMPT, span, num_prompt_logprobs=num_top
                    )
            except TimeoutError:
                await self._meter.expire()
                return ()
        return output.prompt_logprobs if output else ()

    def _next_id(self) -> str:
        return f"{self._defaults.id_prefix}-{next(self._serials)}"


def _verifier_prompt(version: AdapterVersion) -> VerifierPrompt | None:
    """Return the verifier prompt of an adapter version as the value that strategies read."""
    prompt = version.verifier_prompt
    return None if prompt is None else VerifierPrompt(prompt.template, prompt.yes, prompt.no)
