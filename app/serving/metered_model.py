"""The `Model` that strategies see: an engine behind a meter, an admission ticket and a deadline.

Owns what no strategy should care for: one engine branch per sample, seeds, slots, cancellation of what still runs, and the
counting of every token, including those of branches that were ended.
"""

import asyncio
import copy
import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from adapters.residency import Lease
from adapters.version import AdapterVersion
from app.admission import Admission, Ticket
from app.engine.base import Branch, Engine, Output, Prompt
from app.metering.meter import Grant, Meter, Purpose
from app.telemetry.branch_spans import in_spans
from app.telemetry.spans import NO_SPAN, Span
from strategies.core.values import Candidate, Cost, Delta, Draw, StopReason, VerifierPrompt

HALT_GRACE_S = 1.0
"""How long a halted branch may take to hand in what it had, before it is cancelled and lost."""


@dataclass(slots=True)
class _Wave:
    """What the branches of one `sample` call share. `limit` tokens end an answer, `cap` a step of it; `share` may be granted."""

    prefix: tuple[int, ...]
    limit: int
    cap: int
    share: int
    separators: tuple[str, ...]
    num_logprobs: int | None
    on_delta: Callable[[Delta], None] | None
    until: Callable[[str], bool] | None
    temperature: float | None
    span: Span = NO_SPAN
    arrived: asyncio.Queue[Candidate | None] = field(default_factory=asyncio.Queue)
    live: set[str] = field(default_factory=set)


class MeteredModel:
    """`strategies.core.ports.Model` for one request.

    Args:
        lease: on the adapter version that generates; None for the base model.
        parts: leases on the adapters that the strategy uses besides, by their names in its parameters.
        cache_salt: the caller's own; each adapter version adds its own to it.
        span: what waves, branches and verdicts are parts of.

    """

    def __init__(
        self,
        engine: Engine,
        meter: Meter,
        admission: Admission,
        ticket: Ticket,
        prompt: Prompt,
        *,
        request_id: str,
        seed: int | None = None,
        cache_salt: str | None = None,
        has_deltas: bool = True,
        lease: Lease | None = None,
        parts: Mapping[str, Lease] | None = None,
        span: Span = NO_SPAN,
    ) -> None:
        self._engine = engine
        self._meter = meter
        self._admission = admission
        self._ticket = ticket
        self._prompt = prompt
        self._request_id = request_id
        self._seed = seed
        self._has_deltas = has_deltas
        self._serial = itertools.count()
        self.span = span
        self._caller_salt = cache_salt
        self._parts = parts or {}
        self._run_on(lease)

    def _run_on(self, lease: Lease | None) -> None:
        self._adapter = None if lease is None else lease.adapter
        self._architecture = self._engine.card.architecture_with(None if lease is None else lease.version)
        self._inquiry = None if lease is None else _inquiry(lease.version)
        salts = [self._caller_salt, lease and lease.cache_salt]
        self._cache_salt = ":".join(salt for salt in salts if salt) or None

    def using(self, adapter: str) -> "MeteredModel":
        """The same request's model with another of its adapters; see `strategies.core.ports.Model.using`."""
        other = copy.copy(self)
        other._run_on(self._parts[adapter])
        return other

    def within(self, span: Span) -> "MeteredModel":
        """The same, at work on another piece of the request."""
        other = copy.copy(self)
        other.span = span
        return other

    @property
    def inquiry(self) -> VerifierPrompt | None:
        """How the adapter in use was taught to be asked."""
        return self._inquiry

    @property
    def deadline(self) -> float | None:
        """When the time is over."""
        return self._meter.deadline

    @property
    def stopped(self) -> StopReason | None:
        """The budget that ran out, or None."""
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
                # Branches fail for one reason (a refused request, a dead engine): the first says it.
                raise first_leaf(errors) from None

    def _wave(self, draw: Draw) -> _Wave:
        prefix, step, wanted = draw.prefix, draw.step, draw.max_tokens
        if wanted is None:
            wanted = self._prompt.max_tokens - (len(prefix) - len(self._prompt.token_ids))
        limit = min(wanted, self._engine.card.max_model_len - len(prefix))
        cap = limit if step.max_tokens is None else min(step.max_tokens, limit)
        return _Wave(
            prefix=prefix,
            limit=limit,
            cap=cap,
            share=self._meter.fair_share(cap, draw.n),
            separators=tuple(separator for separator in step.separators if separator not in self._prompt.stop),
            num_logprobs=draw.num_logprobs,
            on_delta=draw.on_delta if self._has_deltas else None,
            until=step.until,
            temperature=draw.temperature,
        )

    def spend(self, tokens: int, flops: int) -> bool:
        """Book what is computed elsewhere."""
        return self._meter.spend(tokens, flops)

    async def score_options(self, prefix: Sequence[int], options: Sequence[int]) -> list[float]:
        """Log-probability of each option as the next token; charged as verification."""
        with self.span.child("verdict") as span:
            return await self._verdict(prefix, options, span)

    async def _verdict(self, prefix: Sequence[int], options: Sequence[int], span: Span) -> list[float]:
        has_room = len(prefix) < self._engine.card.max_model_len
        grant = await self._meter.reserve(len(prefix), 1, self._architecture) if has_room else None
        if grant is None:
            return [0.0] * len(options)
        output: Output | None = None
        try:
            async with self._admission.slot(self._ticket):
                branch = Branch(
                    id=self._next_id(), prompt=self._prompt, prefix=tuple(prefix), max_tokens=1,
                    priority=self._ticket.priority, cache_salt=self._cache_salt, options=tuple(options),
                    adapter=self._adapter,
                )  # fmt: skip
                async with aclosing(self._engine.generate(branch)) as outputs:  # type: ignore[type-var]
                    async for output in outputs:  # noqa: B007 - the last one is kept
                        pass
        finally:
            cached = output.cached_tokens if output else 0
            if span.is_recording:
                span.set({"ponder.tokens.prefix": len(prefix), "ponder.tokens.cached": cached})
            await self._meter.settle(grant, cached=cached, generated=1, ran=output is not None, purpose=Purpose.VERIFY)
        return [output.option_logprobs[option] for option in options] if output else []

    def _next_id(self) -> str:
        return f"{self._request_id}-{next(self._serial)}"

    async def _arrivals(self, wave: _Wave, tasks: list[asyncio.Task[Candidate | None]]) -> AsyncIterator[Candidate]:
        for _ in tasks:
            try:
                # Around the wait alone: at a `yield` the time-out would strike whoever consumes the candidates.
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

    async def _end(self, wave: _Wave, tasks: list[asyncio.Task[Candidate | None]]) -> None:
        """End what still runs: the engine hands in what each branch had, so that it is counted."""
        running = [task for task in tasks if not task.done()]
        if not running:
            return
        self._meter.branches["cancelled"] += len(running)
        for task in running:
            if task.get_name() not in wave.live:
                task.cancel()
        await self._engine.halt(list(wave.live))
        _, late = await asyncio.wait(running, timeout=HALT_GRACE_S)
        for task in late:
            task.cancel()

    async def _branch(self, wave: _Wave, index: int) -> Candidate | None:
        branch_id = self._next_id()
        asyncio.current_task().set_name(branch_id)  # type: ignore[union-attr] # runs in a task of `sample`
        grant = await self._meter.reserve(len(wave.prefix), wave.share, self._architecture)
        candidate = None if grant is None else await self._granted(wave, index, grant, branch_id)
        wave.arrived.put_nowait(candidate)
        return candidate

    async def _granted(self, wave: _Wave, index: int, grant: Grant, branch_id: str) -> Candidate | None:
        run = _Run(index, wave.on_delta)
        asked = time.monotonic()
        try:
            async with self._admission.slot(self._ticket):
                self._meter.seconds.setdefault("queue", time.monotonic() - asked)
                branch = Branch(
                    id=branch_id, prompt=self._prompt, prefix=wave.prefix, max_tokens=grant.tokens,
                    priority=self._ticket.priority, seed=None if self._seed is None else _wrapped(self._seed + index),
                    num_logprobs=wave.num_logprobs, cache_salt=self._cache_salt,
                    is_streamed=wave.on_delta is not None or wave.until is not None, adapter=self._adapter,
                    separators=wave.separators, temperature=wave.temperature,
                )  # fmt: skip
                wave.live.add(branch_id)
                try:
                    async with aclosing(self._engine.generate(branch)) as outputs:  # type: ignore[type-var]
                        async for output in outputs:
                            run.add(output)
                            if run.is_past(wave.until):
                                await self._engine.halt([branch_id])
                finally:
                    wave.live.discard(branch_id)
        finally:
            self._meter.branches["drawn"] += run.started
            # The first token comes with the end of the prefill: without one, the engine did no work worth booking.
            await self._meter.settle(grant, cached=run.cached_tokens, generated=run.num_generated, ran=run.num_generated > 0)
        if not run.started:
            return None
        if run.finish_reason == "length" and grant.tokens < wave.cap:
            self._meter.exhaust(grant)
        prefill, decode = grant.architecture.branch_cost(grant.prefix_tokens, run.cached_tokens, run.num_generated)
        started = asked - self._meter.started
        cost = Cost(run.cached_tokens, prefill + decode, started, time.monotonic() - asked)
        return run.candidate(wave, is_capped=grant.tokens == wave.cap < wave.limit, cost=cost)


class _Run:
    """Puts the outputs of one branch together."""

    def __init__(self, index: int, on_delta: Callable[[Delta], None] | None) -> None:
        self._index = index
        self._on_delta = on_delta
        self._outputs: list[Output] = []
        self._is_past = False
        self._text = ""
        self.cached_tokens = 0
        self.num_generated = 0
        self.finish_reason: str | None = None

    @property
    def started(self) -> bool:
        return bool(self._outputs)

    def add(self, output: Output) -> None:
        self._outputs.append(output)
        self.cached_tokens = max(self.cached_tokens, output.cached_tokens)
        self.num_generated += len(output.token_ids)
        self.finish_reason = output.finish_reason
        if self._on_delta is not None:
            self._on_delta(
                Delta(
                    self._index,
                    output.text,
                    output.token_ids,
                    output.logprobs,
                    output.finish_reason,
                    output.stop_reason,
                )
            )

    def is_past(self, until: Callable[[str], bool] | None) -> bool:
        """Whether its step has ended now; told once."""
        if until is None or self._is_past or self.finish_reason is not None:
            return False
        self._text += self._outputs[-1].text
        self._is_past = until(self._text)
        return self._is_past

    def candidate(self, wave: _Wave, *, is_capped: bool, cost: Cost) -> Candidate:
        """`is_capped`: what it was granted is what a step may have."""
        if len(self._outputs) == 1:
            [only] = self._outputs
            text, token_ids, logprobs = only.text, only.token_ids, only.logprobs
        else:
            text = "".join(output.text for output in self._outputs)
            token_ids = tuple(itertools.chain.from_iterable(output.token_ids for output in self._outputs))
            logprobs = tuple(itertools.chain.from_iterable(o.logprobs for o in self._outputs))
        last = self._outputs[-1]
        finish = last.finish_reason or "abort"
        is_separated = finish == "stop" and last.stop_reason in wave.separators
        if is_separated or (finish == "length" and is_capped) or (finish == "abort" and self._is_past):
            finish = "step"
        return Candidate(self._index, text, token_ids, finish, last.stop_reason, logprobs, cost=cost)


def _inquiry(version: AdapterVersion) -> VerifierPrompt | None:
    """The adapter's own words, in the words of search."""
    taught = version.inquiry
    return None if taught is None else VerifierPrompt(taught.template, taught.yes, taught.no)


def _wrapped(seed: int) -> int:
    """The largest seed has successors too: 64 bits, signed."""
    return (seed + 2**63) % 2**64 - 2**63


def first_leaf(error: BaseException) -> BaseException:
    """The first error that is not itself a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
