"""Counts what one request spends, and refuses to overspend.

Tokens and FLOPs are reserved before a branch starts, at the worst case (nothing cached, all tokens generated), and the rest is
given back when it ends: so a budget is never exceeded, not by a token, however many branches run at once. Knows no engine.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from app.engine.architecture import Architecture
from strategies.core.values import StopReason

FAIR_SHARE_FLOOR = 128
"""Tokens below which a short budget is not divided further: fewer, whole answers are worth more than many stumps."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that one request may spend; None is no limit. `tokens` counts those generated, by all branches together."""

    tokens: int | None = None
    flops: int | None = None
    seconds: float | None = None

    def capped(self, other: "Budget") -> "Budget":
        """The tighter of both, field by field."""
        return Budget(
            _tighter(self.tokens, other.tokens),
            _tighter(self.flops, other.flops),
            _tighter(self.seconds, other.seconds),
        )


_Number = TypeVar("_Number", int, float)


def _tighter(a: _Number | None, b: _Number | None) -> _Number | None:
    return min((value for value in (a, b) if value is not None), default=None)


class Purpose(StrEnum):
    """What a forward pass was for; difficulty probes and verifiers are charged like any other."""

    GENERATE = "generate"
    VERIFY = "verify"


@dataclass(frozen=True, slots=True)
class Grant:
    """A reservation: `tokens` may be generated after a prefix of `prefix_tokens`; `flops` is what that costs at worst.

    `architecture` is what computes it: the base model, or that with an adapter. `limit` is the budget that made it smaller than asked
    for.
    """

    prefix_tokens: int
    tokens: int
    flops: int
    architecture: Architecture
    limit: StopReason | None = None


class Meter:
    """The account of one request.

    Args:
        architecture: the base model; each reservation may be for another, such as the same with an adapter.
        budget: what may be spent.

    Attributes:
        tokens: by kind: prefilled, cached, decoded, and verified (prefilled or decoded by verifiers).
        flops: by phase: prefill, decode, verify.
        saved: FLOPs that were not needed, and so are no part of these: by the prefix `cache`, by `early_stopping` (estimated).
        best_of: FLOPs that a fixed best-of-16 would have taken (estimated); both estimates are made when all is answered.
        seconds: by phase, wall-clock.
        stopped: the budget that ran out first.

    """

    def __init__(self, architecture: Architecture, budget: Budget) -> None:
        self._architecture = architecture
        self.budget = budget
        self.started = time.monotonic()
        self.tokens: Counter[str] = Counter()
        self.flops: Counter[str] = Counter()
        self.saved: Counter[str] = Counter()
        self.best_of = 0
        self.seconds: dict[str, float] = {}
        self.branches: Counter[str] = Counter()
        self.prompt_cached: int | None = None
        self.stopped: StopReason | None = None
        self._reserved_tokens = 0
        self._reserved_flops = 0
        self._num_open = 0
        self._freed = asyncio.Condition()

    @property
    def deadline(self) -> float | None:
        """On the clock of `time.monotonic`, which is also the event loop's."""
        return None if self.budget.seconds is None else self.started + self.budget.seconds

    @property
    def generated_tokens(self) -> int:
        """Tokens generated so far, by all branches and for every purpose."""
        return self.tokens["decoded"]

    @property
    def total_flops(self) -> int:
        """FLOPs spent so far."""
        return self.flops.total()

    def fair_share(self, wanted: int, num_branches: int) -> int:
        """How many of the `wanted` tokens each of `num_branches` may reserve, so that a short budget serves all of them."""
        left, _ = self._left()
        return wanted if left is None else min(wanted, max(left // num_branches, FAIR_SHARE_FLOOR))

    async def reserve(self, prefix_tokens: int, wanted: int, architecture: Architecture | None = None) -> Grant | None:
        """Reserve up to `wanted` generated tokens; None when the budget has no room left.

        When others hold reservations that may yet be given back, waits for them rather than granting a stump.
        """
        model = architecture or self._architecture
        if self._has_expired:
            return None
        if (grant := self._try_reserve(prefix_tokens, wanted, model)) is not None:
            return grant
        async with self._freed:
            while not self._has_expired:
                if (grant := self._try_reserve(prefix_tokens, wanted, model)) is not None:
                    return grant
                if self._num_open == 0:
                    return self._last_grant(prefix_tokens, wanted, model)
                await self._freed.wait()
        return None

    @property
    def _has_expired(self) -> bool:
        return self.stopped is StopReason.SECONDS

    def _left(self) -> tuple[int | None, int | None]:
        """Tokens and FLOPs neither spent nor reserved."""
        tokens, flops = self.budget.tokens, self.budget.flops
        return (
            None if tokens is None else tokens - self.generated_tokens - self._reserved_tokens,
            None if flops is None else flops - self.total_flops - self._reserved_flops,
        )

    def _affordable(self, prefix_tokens: int, wanted: int, model: Architecture) -> tuple[int, StopReason | None]:
        tokens, flops = self._left()
        affordable, limit = wanted, None
        if tokens is not None and tokens < affordable:
            affordable, limit = tokens, StopReason.TOKENS
        if flops is not None and (by_flops := model.affordable_tokens(prefix_tokens, flops)) < affordable:
            affordable, limit = by_flops, StopReason.FLOPS
        return max(affordable, 0), limit

    def _try_reserve(self, prefix_tokens: int, wanted: int, model: Architecture) -> Grant | None:
        affordable, _ = self._affordable(prefix_tokens, wanted, model)
        return self._grant(prefix_tokens, wanted, model) if affordable >= wanted else None

    def _last_grant(self, prefix_tokens: int, wanted: int, model: Architecture) -> Grant | None:
        affordable, limit = self._affordable(prefix_tokens, wanted, model)
        self.stopped = self.stopped or limit
        return self._grant(prefix_tokens, affordable, model, limit) if affordable > 0 else None

    def _grant(self, prefix_tokens: int, tokens: int, model: Architecture, limit: StopReason | None = None) -> Grant:
        flops = sum(model.branch_cost(prefix_tokens, 0, tokens)) if self.budget.flops is not None else 0
        self._reserved_tokens += tokens
        self._reserved_flops += flops
        self._num_open += 1
        return Grant(prefix_tokens, tokens, flops, model, limit)

    async def settle(
        self, grant: Grant, *, cached: int, generated: int, ran: bool, purpose: Purpose = Purpose.GENERATE
    ) -> None:
        """Give the reservation back and book what was really spent. `ran`: the engine saw the branch."""
        self._reserved_tokens -= grant.tokens
        self._reserved_flops -= grant.flops
        self._num_open -= 1
        if ran:
            self._book(grant, cached, generated, purpose)
        if self.budget.tokens is not None or self.budget.flops is not None:
            async with self._freed:
                self._freed.notify_all()

    def _book(self, grant: Grant, cached: int, generated: int, purpose: Purpose) -> None:
        prefix_tokens, model = grant.prefix_tokens, grant.architecture
        prefill, decode = model.branch_cost(prefix_tokens, cached, generated)
        self.tokens["prefilled"] += prefix_tokens - cached
        self.tokens["cached"] += cached
        self.tokens["decoded"] += generated
        self.saved["cache"] += model.saved(prefix_tokens, cached)
        if purpose is Purpose.VERIFY:
            self.tokens["verified"] += prefix_tokens - cached + generated
            self.flops["verify"] += prefill + decode
            return
        self.flops["prefill"] += prefill
        self.flops["decode"] += decode
        self.prompt_cached = cached if self.prompt_cached is None else min(cached, self.prompt_cached)

    def spend(self, tokens: int, flops: int) -> bool:
        """Book a verification that is computed elsewhere; False, and nothing booked, when the budget has no room for it."""
        _, left = self._left()
        if left is not None and flops > left:
            self.stopped = self.stopped or StopReason.FLOPS
            return False
        self.tokens["verified"] += tokens
        self.flops["verify"] += flops
        return True

    async def expire(self) -> None:
        """The deadline passed: nothing more is granted, and whoever waits for a grant is told."""
        self.stopped = self.stopped or StopReason.SECONDS
        async with self._freed:
            self._freed.notify_all()

    def exhaust(self, grant: Grant) -> None:
        """A branch was cut short by its grant; only a share of the tokens is ever smaller without a `limit`."""
        self.stopped = self.stopped or grant.limit or StopReason.TOKENS

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the wall-clock time of the block to a phase."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.monotonic() - start
