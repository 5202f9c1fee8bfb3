"""Tells whether two canonical answers are the same.

Two plain numbers are compared exactly, in this process. Other mathematics is compared by math-verify in a worker process that is killed
when it takes too long: a model may write a tower of exponents, and a client can make it write one.
"""

import asyncio
import multiprocessing
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

from pebble import ProcessExpired, ProcessPool

from strategies.answers.reading import number_of
from strategies.core.values import AnswerKind

VERIFY_TIMEOUT_S = 1.0
NUM_CACHED = 10_000
"""Comparisons that are remembered; then all are forgotten."""

T = TypeVar("T")


class Equivalence:
    """Tells whether two canonical answers are the same.

    It owns the worker process of math-verify, which is started when it is first needed. `close` ends it.
    """

    def __init__(self, timeout: float = VERIFY_TIMEOUT_S) -> None:
        self._timeout = timeout
        self._pool: ProcessPool | None = None
        self._known: dict[tuple[str, str], bool] = {}
        self._too_slow: set[str] = set()

    async def same(self, kind: AnswerKind, a: str, b: str) -> bool:
        """Return whether the two are the same; False if that cannot be decided in time. The order of the two does not matter."""
        if a == b:
            return True
        if kind is not AnswerKind.MATH or (_is_number(a) and _is_number(b)) or not self._too_slow.isdisjoint((a, b)):
            return False
        key = (min(a, b), max(a, b))
        if key not in self._known:
            if len(self._known) >= NUM_CACHED:
                self._known.clear()
                self._too_slow.clear()
            self._known[key] = await self._verify(*key)
        return self._known[key]

    async def _verify(self, a: str, b: str) -> bool:
        try:
            return await self.isolated(_are_equal, a, b)
        except TimeoutError:
            # One of the two is too expensive, and it is not known which. Neither is tried again, so that a vote among n such answers costs
            # at most n time-outs, not n squared.
            self._too_slow.update((a, b))
            return False

    async def isolated(self, work: Callable[..., T], *args: Any) -> T:
        """Return what `work` returns, computed in the worker process.

        Raises `TimeoutError` if it takes too long or ends the process.
        """
        if self._pool is None:
            # spawn: the service has threads and an event loop, which a forked child must not inherit
            self._pool = ProcessPool(
                max_workers=1, context=multiprocessing.get_context("spawn"), initializer=_import_math_verify
            )
        future: Future[T] = self._pool.schedule(work, args=args, timeout=self._timeout)
        try:
            return await asyncio.wrap_future(future)
        except (FutureTimeout, ProcessExpired) as error:
            raise TimeoutError from error

    def close(self) -> None:
        """End the worker process."""
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()
            self._pool = None


def _is_number(text: str) -> bool:
    return number_of(text) is not None


def _import_math_verify() -> None:
    """Import math-verify when the worker starts: that takes longer than any comparison, and must not count as the first one's time."""
    import math_verify  # noqa: F401, PLC0415


def _are_equal(a: str, b: str) -> bool:
    """Return whether math-verify finds two answers equal. Runs in the worker.

    math-verify's own time-outs are off: they need signals of a main thread, which the worker does not have. The pool kills it instead.
    """
    from math_verify import parse, verify  # noqa: PLC0415

    try:
        first, second = (parse(f"${text}$", parsing_timeout=None) for text in (a, b))
        return bool(first and second) and bool(
            verify(first, second, timeout_seconds=None) or verify(second, first, timeout_seconds=None)
        )
    except Exception:  # noqa: BLE001 - sympy raises anything on odd input; odd input equals nothing
        return False
