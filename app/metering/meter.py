"""Counts what one request spends, and refuses to overspend.

Tokens and FLOPs are reserved before a branch starts, for the worst case: nothing is cached and all tokens are generated. When the
branch ends, what it did not use is given back. So the budget is never exceeded, not by one token, however many branches run at once.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum

from app.engine.architecture import Architecture
from app.engine.flops.vision import ImageTokens
from app.engine.speculation import NO_DRAFTS, Drafts, Speculation
from app.metering.budget import Budget
from strategies.core.values import StopReason

TOKENS = ("prefilled", "cached", "decoded", "verified", "drafted", "thinking", "recomputed")
"""The kinds of tokens that are counted; see `Meter.tokens`."""

FLOP_PHASES = ("prefill", "decode", "verify", "recompute")
"""The phases in which FLOPs are spent; see `Meter.flops`."""

BRANCHES = ("drawn", "cancelled", "moved", "thinking_cut", "thinking_landed", "thinking_extended")
"""What is counted of branches; see `Meter.branches`."""

FAIR_SHARE_FLOOR = 128
"""A short budget is not divided into shares of fewer tokens: a few whole answers are worth more than many that are cut off."""


class Purpose(StrEnum):
    """What a branch is for. Verifiers are charged to the request like its answers, but counted apart."""

    GENERATE = "generate"
    VERIFY = "verify"
    SCORE_PROMPT = "score_prompt"  # never reads the prefix cache, so it tells nothing about how much of the prompt is cached


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one branch may use.

    Attributes:
        prefix_tokens: length of the prefix that the branch continues.
        tokens: the most that it may generate.
        flops: the most that it can cost; 0 where FLOPs have no limit.
        architecture: of what computes it: the base model, alone or with an adapter.
        limit: the budget that made `tokens` smaller than what was asked for; None where it is not smaller.
        speculation: how tokens are drafted; None without speculative decoding.
        guest: the name of the model, where it is not the one that answers.

    """

    prefix_tokens: int
    tokens: int
    flops: int
    architecture: Architecture
    limit: StopReason | None = None
    speculation: Speculation | None = None
    guest: str = ""

    def cost(self, cached: int, generated: int, drafts: Drafts) -> tuple[int, int]:
        """Return the FLOPs of (prefill, decode) of the branch, drafted tokens among those of decode."""
        prefill, decode = self.architecture.branch_cost(self.prefix_tokens, cached, generated)
        if self.speculation is not None:
            decode += self.speculation.extra_cost(self.architecture, self.prefix_tokens, cached, generated, drafts)
        return prefill, decode


@dataclass(frozen=True, slots=True)
class _Rates:
    """What a branch is charged by; see `Reservation`."""

    architecture: Architecture
    speculation: Speculation | None
    guest: str = ""

    def most(self, prefix_tokens: int, tokens: int) -> int:
        """Return the FLOPs that a branch of so many tokens costs at most."""
        return sum(self.architecture.branch_cost(prefix_tokens, 0, tokens)) + self.most_drafts(prefix_tokens, tokens)

    def most_drafts(self, prefix_tokens: int, tokens: int) -> int:
        """Return the FLOPs of drafting so many tokens, at most."""
        return self.speculation.most(self.architecture, prefix_tokens, tokens) if self.speculation else 0


@dataclass(slots=True)
class GuestSpending:
    """What a model has cost that is not the one that answers, by the kinds of `Meter.tokens` and the phases of `Meter.flops`."""

    tokens: Counter[str] = field(default_factory=Counter)
    flops: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class ThinkingShare:
    """What one branch may think of a budget for the thinking of all branches.

    Attributes:
        tokens: that it may think; None for no limit.
        used: that it has thought in the end.

    """

    tokens: int | None = None
    used: int = 0


class Meter:
    """Counts what one request spends, against its budget.

    Args:
        architecture: of the base model; a reservation may name another, such as the base model with an adapter.
        budget: what may be spent.
        speculation: how tokens are drafted; None without speculative decoding.

    Attributes:
        started: when the meter was made, on the clock of `time.monotonic`, in seconds.
        tokens: by kind: `prefilled`, `cached`, `decoded`; `verified` counts those of verifiers again, `thinking` the decoded ones
            that are thinking, of all branches; `drafted` those of speculative decoding, accepted or not; `recomputed` those that had to
            be computed again, since a part of the engine failed.
        flops: FLOPs spent, by phase: `prefill`, `decode`, `verify`, and `recompute` for what was lost.
        saved: FLOPs that were not spent: by the prefix `cache`, and by `early_stopping` (estimated, once the request is answered).
        best_of: FLOPs that a fixed best-of-16 would have cost (estimated, once the request is answered).
        seconds: wall-clock seconds by phase.
        branches: how many were `drawn`, how many were `cancelled` before their end, how many were `moved` to another part of the engine
            since theirs failed, and whose thinking the server has
            `thinking_cut` (ended), `thinking_landed` (announced the end of) or `thinking_extended` (taken the end back, each time).
        prompt_cached: tokens of the prompt that were found in the prefix cache, the fewest of all branches that generated answers;
            None before the first branch has ended.
        guests: what other models have cost, by name: `tokens` and `flops` count it too.
        stopped: the budget that ran out first, None while there is something left of all.

    """

    def __init__(self, architecture: Architecture, budget: Budget, speculation: Speculation | None = None) -> None:
        self._rates = _Rates(architecture, speculation)
        self.budget = budget
        self.started = time.monotonic()
        self.tokens: Counter[str] = Counter()
        self.flops: Counter[str] = Counter()
        self.saved: Counter[str] = Counter()
        self.best_of = 0
        self.seconds: dict[str, float] = {}
        self.branches: Counter[str] = Counter()
        self.guests: dict[str, GuestSpending] = {}
        self.prompt_cached: int | None = None
        self.stopped: StopReason | None = None
        self._reserved_tokens = 0
        self._reserved_flops = 0
        self._num_open = 0
        self._thought = self._reserved_thinking = self._num_thinking = 0
        self._encoded: set[ImageTokens] = set()
        self._freed = asyncio.Condition()

    @property
    def deadline(self) -> float | None:
        """When the seconds run out, on the clock of `time.monotonic` (also the event loop's); None for never."""
        return None if self.budget.seconds is None else self.started + self.budget.seconds

    @property
    def generated_tokens(self) -> int:
        """The number of tokens generated so far, by all branches and for every purpose."""
        return self.tokens["decoded"]

    @property
    def tokens_left(self) -> int | None:
        """The tokens that are neither spent nor reserved; None without a limit."""
        return self._left()[0]

    @property
    def total_flops(self) -> int:
        """The FLOPs spent so far, in all phases."""
        return self.flops.total()

    def fair_share(self, wanted: int, num_branches: int) -> int:
        """Return how many of the `wanted` tokens each of `num_branches` may reserve, so that a short budget serves all of them."""
        left, _ = self._left()
        return wanted if left is None else min(wanted, max(left // num_branches, FAIR_SHARE_FLOOR))

    @contextmanager
    def thinking(self, width: int, most: int) -> Iterator[ThinkingShare]:
        """Reserve a branch's share of the thinking of all branches, for the block, which says how much of it was used.

        What is left is divided by the branches that may still begin while the others run.

        Args:
            width: the most branches that run at once.
            most: that the branch can think; 0 for one that does not think.

        """
        total = self.budget.total_thinking_tokens
        if total is None or most == 0:
            yield ThinkingShare()
            return
        left = total - self._thought - self._reserved_thinking
        tokens = left // max(width - self._num_thinking, 1)
        share, held = ThinkingShare(tokens), min(tokens, most)
        self._reserved_thinking += held
        self._num_thinking += 1
        try:
            yield share
        finally:
            self._reserved_thinking -= held
            self._num_thinking -= 1
            self._thought += min(share.used, held)

    async def reserve(
        self,
        prefix_tokens: int,
        wanted: int,
        architecture: Architecture | None = None,
        guest: tuple[str, Speculation | None] | None = None,
    ) -> Reservation | None:
        """Reserve up to `wanted` generated tokens after a prefix of `prefix_tokens`. Call `settle` when the branch has ended.

        Returns None when the budget has no room for a single token, or when its seconds are over. When the room is short while
        other branches hold reservations, this waits for what they give back, instead of starting an answer that would be cut off.

        Args:
            prefix_tokens: length of the prefix that the branch continues.
            wanted: the most tokens that it would generate.
            architecture: of what computes it; by default the base model's.
            guest: the name of the model where it is not the one that answers, and how it drafts.

        """
        rates = self._rates if guest is None else _Rates(self._rates.architecture, guest[1], guest[0])
        if architecture is not None:
            rates = replace(rates, architecture=architecture)
        if self._has_expired:
            return None
        if (reservation := self._try_reserve(prefix_tokens, wanted, rates)) is not None:
            return reservation
        async with self._freed:
            while not self._has_expired:
                if (reservation := self._try_reserve(prefix_tokens, wanted, rates)) is not None:
                    return reservation
                if self._num_open == 0:
                    return self._reserve_rest(prefix_tokens, wanted, rates)
                await self._freed.wait()
        return None

    @property
    def _has_expired(self) -> bool:
        return self.stopped is StopReason.SECONDS

    def _left(self) -> tuple[int | None, int | None]:
        """Return the tokens and the FLOPs that are neither spent nor reserved; None without a limit."""
        tokens, flops = self.budget.tokens, self.budget.flops
        return (
            None if tokens is None else tokens - self.generated_tokens - self._reserved_tokens,
            None if flops is None else flops - self.total_flops - self._reserved_flops,
        )

    def _affordable(self, prefix_tokens: int, wanted: int, rates: _Rates) -> tuple[int, StopReason | None]:
        """Return how many of the `wanted` tokens there is room for now, and the budget that allows no more."""
        tokens, flops = self._left()
        affordable, limit = wanted, None
        if tokens is not None and tokens < affordable:
            affordable, limit = tokens, StopReason.TOKENS
        if flops is not None:
            by_flops = rates.architecture.affordable_tokens(
                prefix_tokens, flops, lambda tokens: rates.most_drafts(prefix_tokens, tokens)
            )
            if by_flops < affordable:
                affordable, limit = by_flops, StopReason.FLOPS
        return max(affordable, 0), limit

    def _try_reserve(self, prefix_tokens: int, wanted: int, rates: _Rates) -> Reservation | None:
        affordable, _ = self._affordable(prefix_tokens, wanted, rates)
        return self._hold(prefix_tokens, wanted, rates) if affordable >= wanted else None

    def _reserve_rest(self, prefix_tokens: int, wanted: int, rates: _Rates) -> Reservation | None:
        affordable, limit = self._affordable(prefix_tokens, wanted, rates)
        self.stopped = self.stopped or limit
        return self._hold(prefix_tokens, affordable, rates, limit) if affordable > 0 else None

    def _hold(self, prefix_tokens: int, tokens: int, rates: _Rates, limit: StopReason | None = None) -> Reservation:
        flops = 0 if self.budget.flops is None else rates.most(prefix_tokens, tokens)
        self._reserved_tokens += tokens
        self._reserved_flops += flops
        self._num_open += 1
        return Reservation(prefix_tokens, tokens, flops, rates.architecture, limit, rates.speculation, rates.guest)

    async def settle(
        self,
        reservation: Reservation,
        *,
        cached: int,
        generated: int,
        ran: bool,
        purpose: Purpose = Purpose.GENERATE,
        drafts: Drafts = NO_DRAFTS,
    ) -> None:
        """End a reservation: give it back and book what the branch really used.

        Args:
            reservation: of the branch, as `reserve` returned it.
            cached: tokens of the prefix that were found in the prefix cache.
            generated: tokens that were generated.
            ran: whether the engine ran the branch; if not, nothing is booked.
            purpose: what the branch was for.
            drafts: of the branch.

        """
        self._release(reservation)
        if ran:
            self._book(reservation, cached, generated, purpose, drafts)
        if self.budget.tokens is not None or self.budget.flops is not None:
            async with self._freed:
                self._freed.notify_all()

    def carry_on(
        self,
        reservation: Reservation,
        *,
        cached: int,
        generated: int,
        inserted: int,
        dropped: int = 0,
        purpose: Purpose = Purpose.GENERATE,
        drafts: Drafts = NO_DRAFTS,
    ) -> Reservation:
        """Book the part of a branch that has ended, and return a reservation for the rest. It is for the same answer, so nothing waits.

        The rest continues what was generated, but for the last `dropped` tokens, and `inserted` tokens that the server writes. A budget
        of FLOPs may leave it no token.
        """
        self._release(reservation)
        if generated:
            self._book(reservation, cached, generated, purpose, drafts)
        prefix_tokens = reservation.prefix_tokens + generated + inserted - dropped
        rest = max(reservation.tokens - generated - inserted, 0)
        rates = _Rates(reservation.architecture, reservation.speculation, reservation.guest)
        affordable, limit = self._affordable(prefix_tokens, rest, rates)
        return self._hold(prefix_tokens, affordable, rates, limit or reservation.limit)

    def _release(self, reservation: Reservation) -> None:
        self._reserved_tokens -= reservation.tokens
        self._reserved_flops -= reservation.flops
        self._num_open -= 1

    def _book(self, reservation: Reservation, cached: int, generated: int, purpose: Purpose, drafts: Drafts) -> None:
        prefix_tokens = reservation.prefix_tokens
        # The engine keeps what its vision tower has read, and does not tell: later branches of a request find it there.
        model = reservation.architecture.without_encoded(self._encoded, cached)
        self._encoded.update(image for image in model.images if image.end > cached)
        if model is not reservation.architecture:
            reservation = replace(reservation, architecture=model)
        prefill, decode = reservation.cost(cached, generated, drafts)
        spent = {"prefilled": prefix_tokens - cached, "cached": cached, "decoded": generated, "drafted": drafts.drafted}
        self.saved["cache"] += model.saved(prefix_tokens, cached)
        if purpose is Purpose.VERIFY:
            self._add(reservation, {**spent, "verified": prefix_tokens - cached + generated}, {"verify": prefill + decode})
            return
        self._add(reservation, spent, {"prefill": prefill, "decode": decode})
        if purpose is Purpose.GENERATE and not reservation.guest:
            self.prompt_cached = cached if self.prompt_cached is None else min(cached, self.prompt_cached)

    def _add(self, reservation: Reservation, tokens: Mapping[str, int], flops: Mapping[str, int]) -> None:
        for kind, amount in tokens.items():
            self.tokens[kind] += amount
        for phase, amount in flops.items():
            self.flops[phase] += amount
        if reservation.guest:
            guest = self.guests.setdefault(reservation.guest, GuestSpending())
            guest.tokens.update(tokens)
            guest.flops.update(flops)

    def lose(self, reservation: Reservation, tokens: int) -> None:
        """Book tokens that a branch had to compute again. The caller's budget has no room kept for them, and may be exceeded by them."""
        self.branches["moved"] += 1
        self._add(reservation, {"recomputed": tokens}, {"recompute": reservation.architecture.prefill(tokens)})

    def spend(self, tokens: int, flops: int) -> bool:
        """Book a verification that another server computes. Returns False, and books nothing, when the FLOPs do not suffice for it."""
        _, left = self._left()
        if left is not None and flops > left:
            self.stopped = self.stopped or StopReason.FLOPS
            return False
        self.tokens["verified"] += tokens
        self.flops["verify"] += flops
        return True

    async def expire(self) -> None:
        """Note that the deadline has passed: from now on every call of `reserve`, also one that waits, returns None."""
        self.stopped = self.stopped or StopReason.SECONDS
        async with self._freed:
            self._freed.notify_all()

    def note_truncated(self, reservation: Reservation) -> None:
        """Note that a branch used up its reservation, so that a budget cut it short."""
        # A reservation without a limit can only have been too small because `fair_share` divided the tokens.
        self.stopped = self.stopped or reservation.limit or StopReason.TOKENS

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the wall-clock seconds of the block to a phase."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.monotonic() - start
