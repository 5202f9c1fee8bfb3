"""Calibration from live traffic: a few of the questions are asked again, several times together, while slots are free.

How far the answers agree tells how probably each is right (`app.routing.agreement`). That corrects the estimates of difficulty at once,
and the answers are kept, for `ponder calibrate --live` to make a policy of them. No request waits for it or fails with it.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from adapters.errors import AdapterError
from app.admission import AdmittedRequest
from app.metering.meter import Meter
from app.routing.agreement import AgreementModel, shipped_agreement
from app.routing.ballots import ballots_of, labels_of
from app.serving.live_pool import MAX_BYTES, LivePools
from app.serving.live_question import Answered
from app.serving.live_sampler import InTheWay, LiveSampler
from app.telemetry.live_metrics import LiveMetrics
from strategies.core.ports import AnswerEquivalence

logger = logging.getLogger("ponder.calibration")

ROOM = 3
"""How much longer than the longest answer of its request each answer may be, with what is written anew behind its false lines.

The allowance must hold that for all of them.
"""

MOST_OF_KEY = 0.5
"""The most of the files that one of several API keys fills, counted since the start of the server."""


class LiveCalibration:
    """Calibrates one base model and its adapters from the requests that they have answered. It asks one question at a time.

    Args:
        share: of the questions, and of the FLOPs of answered requests, 0 to 1.
        pools: the files.
        sampler: asks.
        equivalence: compares answers.
        metrics: count what is asked, and what it costs.
        has_keys: whether several API keys fill the files.
        agreement: tells how probably each answer is right; by default the model that comes with the package.

    Attributes:
        chance: returns a random number, 0 to 1.

    """

    def __init__(
        self,
        share: float,
        pools: LivePools,
        sampler: LiveSampler,
        equivalence: AnswerEquivalence,
        metrics: LiveMetrics,
        *,
        has_keys: bool = False,
        agreement: AgreementModel | None = None,
    ) -> None:
        self._share = share
        self._pools = pools
        self._sampler = sampler
        self._equivalence = equivalence
        self._metrics = metrics
        self._has_keys = has_keys
        self._agreement = agreement or shipped_agreement()
        self.chance: Callable[[], float] = random.random
        self._allowance = 0.0
        self._kept: Counter[str] = Counter()
        self._asking: asyncio.Task[None] | None = None
        self._is_running = False

    @property
    def is_asking(self) -> bool:
        """Whether a question is being asked now."""
        return self._asking is not None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ask within this block. What is asked at its end is cancelled."""
        self._is_running = True
        try:
            yield
        finally:
            self._is_running = False
            if (asking := self._asking) is not None:
                asking.cancel()
                await asyncio.wait([asking])

    def offer(self, answered: Answered) -> None:
        """Ask the question of an answered request again, perhaps. Returns at once."""
        self._allowance += self._share * answered.flops
        if not self._is_running or self._asking is not None or self.chance() >= self._share:
            return
        body = answered.body
        if body is None or (self._has_keys and self._kept[answered.request.owner] >= MOST_OF_KEY * MAX_BYTES):
            return
        longest = self._pools.max_tokens
        affordable = self._sampler.affordable(answered, int(self._allowance))
        if affordable < max(min(ROOM * answered.answer_tokens, longest), 1):
            return
        if (admitted := self._sampler.admit(answered)) is not None:
            body = {**body, "max_tokens": min(affordable, longest)}
            self._asking = asyncio.create_task(self._ask(answered, body, admitted))
            self._asking.add_done_callback(self._end)

    def _end(self, _task: asyncio.Task[None]) -> None:
        self._asking = None

    async def _ask(self, answered: Answered, body: Mapping[str, Any], admitted: AdmittedRequest) -> None:
        """Ask a question, and count what became of it."""
        meter, outcome = self._sampler.meter(int(self._allowance)), "stopped"
        try:
            outcome = await self._learn(answered, body, admitted, meter)
        except (InTheWay, AdapterError):  # the adapter may be removed between the look at its slot and the lease
            pass
        except Exception as error:  # noqa: BLE001 - whatever it is, requests go on
            outcome = "failed"
            # only its type, since its text may have a part of a prompt
            logger.warning("a question could not be asked again for live calibration: %s", type(error).__name__)
        finally:
            self._allowance -= meter.total_flops
            adapter = "" if answered.version is None else answered.version.name
            self._metrics.count(self._sampler.card.name, adapter, outcome, meter.total_flops)

    async def _learn(self, answered: Answered, body: Mapping[str, Any], admitted: AdmittedRequest, meter: Meter) -> str:
        """Ask a question, learn from the answers, keep them, and return what became of it."""
        pool = self._pools.of(answered.version)
        if (why := await asyncio.to_thread(pool.why_not, answered.key)) is not None:
            return why
        entry = await self._sampler.sample(answered, pool.settings, body, admitted, meter)
        if entry is None:
            return "cut"
        if answered.lesson is not None:
            labels = labels_of(await ballots_of(entry, self._equivalence), self._agreement)
            answered.lesson.see_agreement(1 - labels[len(entry.greedy.continuations)])  # of the whole first answer
        self._kept[answered.request.owner] += await asyncio.to_thread(pool.add, entry)
        return "kept"
