"""Decides which requests may run, and which branch runs next. It counts branches, since one request may have sixteen of them.

There are two gates. A request is admitted or refused when it arrives, by its width and by what is admitted already. Each branch of an
admitted request then waits for a slot of the engine.

Slots are given by virtual time: the time of arrival plus a handicap that grows with the request's width. So a narrow request overtakes
wide ones that came shortly before it. No request waits for ever: after it has waited longer than its handicap, it is ahead of every
newcomer. Some slots are reserved for narrow requests.
"""

import asyncio
import heapq
import itertools
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from app.errors import Overloaded, QuotaExceeded
from app.request import Caller
from app.waiting_time import WaitingTimeEstimator

NARROW_WIDTH = 2
"""Requests with at most this many branches may use the reserved slots."""

LAST_PRIORITY = 2**53 - 1
"""The priority of what no client waits for: behind all requests."""

HANDICAP_MS = 2000
"""The handicap: milliseconds of virtual time for each doubling of the width."""


@dataclass(frozen=True, slots=True)
class AdmittedRequest:
    """An admitted request.

    Attributes:
        admission: the `Admission` object that admitted the request.
        caller: the sender of the request.
        width: the most branches that the request runs at once.
        priority: virtual milliseconds; the lowest is served first. vLLM orders its own queue by it too.
        serial: a number that no other request of this server has.

    """

    admission: "Admission" = field(repr=False, compare=False)
    caller: Caller
    width: int
    priority: int
    serial: int

    @property
    def is_narrow(self) -> bool:
        """Whether the request may use the slots that are reserved for narrow requests."""
        return self.width <= NARROW_WIDTH

    def slot(self) -> AbstractAsyncContextManager[None]:
        """Hold one slot of the engine for the length of the block; waits until one is free."""
        return self.admission.slot(self)


class Admission:
    """The two gates of one server.

    Args:
        num_slots: branches that the engine runs at the same time.
        max_branches: the most branches that are admitted at a time. The running and the waiting ones are counted together.
        max_branches_per_key: the most branches of one API key that are admitted at a time.
        has_priorities: whether narrow requests may overtake wide ones. If not, slots go in order of arrival and none is reserved.
        elsewhere: returns how many branches of an owner other front ends have admitted. It is called for each request, and never waits.

    """

    def __init__(
        self,
        *,
        num_slots: int,
        max_branches: int,
        max_branches_per_key: int,
        has_priorities: bool = True,
        elsewhere: Callable[[str], int] = lambda _owner: 0,
    ) -> None:
        self._num_waiting_places = max_branches - num_slots
        self._max_branches = max_branches
        self._max_branches_per_key = max_branches_per_key
        self._has_priorities = has_priorities
        self._waiting_time = WaitingTimeEstimator(num_slots)
        self._started = time.monotonic()
        self._elsewhere = elsewhere
        self._by_key: Counter[str] = Counter()
        self._by_owner: Counter[str] = Counter()
        self.num_admitted = 0
        self.num_running = 0
        self._waiting: dict[bool, list[tuple[int, int, asyncio.Future[None]]]] = {True: [], False: []}
        self._request_serials = itertools.count()
        self._branch_serials = itertools.count()
        self.resize(num_slots)

    def resize(self, num_slots: int) -> None:
        """Run so many branches at the same time from now on. Those that run already go on."""
        self.num_slots = num_slots
        self._max_branches = num_slots + self._num_waiting_places
        self._num_reserved = num_slots // 8 if self._has_priorities else 0
        self._waiting_time.num_slots = num_slots - self._num_reserved
        self._hand_out()

    @property
    def load(self) -> float:
        """Admitted branches as a share of the most that are admitted, 0 to 1."""
        return min(self.num_admitted / self._max_branches, 1.0)

    @property
    def branches_by_owner(self) -> Mapping[str, int]:
        """The admitted branches of each owner who has any."""
        return self._by_owner

    @property
    def num_waiting(self) -> int:
        """The number of branches that wait for a slot."""
        return sum(len(queue) for queue in self._waiting.values())

    @property
    def max_width(self) -> float:
        """The most branches of a request that can be admitted at all, however little else runs."""
        most = min(self._max_branches, self._max_branches_per_key)
        return most if most < self.num_slots else math.inf

    @contextmanager
    def admit(self, caller: Caller, width: int) -> Iterator[AdmittedRequest]:
        """Admit a request of `width` branches for the length of the block, or raise `QuotaExceeded` or `Overloaded`."""
        key = caller.key
        # A request can hold at most all slots of the engine at a time, however wide the request is.
        width_held = min(width, self.num_slots)
        excess = self._by_key[key] + self._elsewhere(caller.owner) + width_held - self._max_branches_per_key
        if excess > 0:
            wait = self._waiting_time.seconds_until_room(key, excess, width_held)
            message = f"Too many branches of this caller run or wait; try again in {math.ceil(wait)} seconds."
            raise QuotaExceeded(message, retry_after=wait)
        excess = self.num_admitted + width_held - self._max_branches
        if excess > 0:
            wait = self._waiting_time.seconds_until_room(None, excess, width_held)
            message = f"The server has too many branches that run or wait; try again in {math.ceil(wait)} seconds."
            raise Overloaded(message, retry_after=wait)
        admitted = AdmittedRequest(self, caller, width, self._priority(width), next(self._request_serials))
        self.num_admitted += width_held
        self._by_key[key] += width_held
        self._by_owner[caller.owner] += width_held
        try:
            yield admitted
        finally:
            self._waiting_time.end_request(admitted.serial, width_held)
            self.num_admitted -= width_held
            self._by_key[key] -= width_held
            if not self._by_key[key]:
                del self._by_key[key]
            self._by_owner[caller.owner] -= width_held
            if not self._by_owner[caller.owner]:
                del self._by_owner[caller.owner]

    def admit_spare(self, caller: Caller, width: int) -> AdmittedRequest | None:
        """Return a place behind all requests for work that no client waits for, None unless so many slots are free now.

        It counts in no quota and not as load. Whoever has it must give its slots back as soon as a branch waits (`num_waiting`).
        """
        if self.num_waiting or self.num_running + width > self.num_slots - self._num_reserved:
            return None
        priority = LAST_PRIORITY if self._has_priorities else 0
        return AdmittedRequest(self, caller, width, priority, next(self._request_serials))

    def _priority(self, width: int) -> int:
        if not self._has_priorities:
            return 0
        return int((time.monotonic() - self._started) * 1000 + HANDICAP_MS * math.log2(max(width, 1)))

    @asynccontextmanager
    async def slot(self, request: AdmittedRequest) -> AsyncIterator[None]:
        """Hold one slot of the engine for the length of the block."""
        if self._is_free(is_narrow=request.is_narrow) and not self._waiting[request.is_narrow]:
            self.num_running += 1
        else:
            await self._wait(request)
        try:
            with self._waiting_time.held(request.serial):
                yield
        finally:
            self.num_running -= 1
            self._hand_out()

    def _is_free(self, *, is_narrow: bool) -> bool:
        return self.num_running < self.num_slots - (0 if is_narrow else self._num_reserved)

    async def _wait(self, request: AdmittedRequest) -> None:
        turn = asyncio.get_running_loop().create_future()
        entry = (request.priority, next(self._branch_serials), turn)
        heapq.heappush(self._waiting[request.is_narrow], entry)
        try:
            await turn
        except asyncio.CancelledError:
            # this waiter got a slot in the same moment: give the slot to the next waiter
            if turn.done() and not turn.cancelled():
                self.num_running -= 1
                self._hand_out()
            raise

    def _hand_out(self) -> None:
        while (queue := self._next_queue()) is not None:
            _, _, turn = heapq.heappop(queue)
            self.num_running += 1
            turn.set_result(None)

    def _next_queue(self) -> list[tuple[int, int, asyncio.Future[None]]] | None:
        """Return the queue whose first waiter gets the next free slot, None if no waiter may have one. Drops cancelled waiters."""
        due = []
        for is_narrow, queue in self._waiting.items():
            while queue and queue[0][2].done():
                heapq.heappop(queue)
            if queue and self._is_free(is_narrow=is_narrow):
                due.append(queue)
        return min(due, key=lambda queue: queue[0][:2], default=None)
