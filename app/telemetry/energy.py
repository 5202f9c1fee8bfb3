"""Joules, where the machine counts them: of processor packages by RAPL, of NVIDIA's GPUs by NVML. Elsewhere there are none.

The counters are the machine's, whoever uses it. What they gain between two readings is shared among the requests by the FLOPs that they
did in the meantime, as far as their meters know: branches are booked when they end. What is gained while none runs is nobody's.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from app.telemetry.metrics import Metrics
from app.telemetry.request_metrics import Labels

logger = logging.getLogger("ponder")

RAPL = Path("/sys/class/powercap")
INTERVAL_S = 5.0
"""RAPL's counters of 32 bits turn over after a minute at the soonest."""


class EnergyCounter(Protocol):
    """Something that counts the joules of a part of the machine. `source`: `rapl` or `nvml`."""

    source: str

    def read(self) -> float:
        """Joules since the last reading, 0 at the first."""
        ...


class Rapl:
    """One processor package; its file counts microjoules up to `max_energy_range_uj`, and begins anew."""

    source = "rapl"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "energy_uj"
        self._range = int((folder / "max_energy_range_uj").read_text())
        self._last = int(self._path.read_text())

    def read(self) -> float:
        """See `EnergyCounter`."""
        now = int(self._path.read_text())
        gained, self._last = now - self._last, now
        return (gained if gained >= 0 else gained + self._range) / 1e6


class Nvml:
    """One GPU; `total` reads millijoules since its driver was loaded."""

    source = "nvml"

    def __init__(self, total: Callable[[], int]) -> None:
        self._total = total
        self._last = total()

    def read(self) -> float:
        """See `EnergyCounter`."""
        now = self._total()
        gained, self._last = now - self._last, now
        return max(gained, 0) / 1e3


def find_counters(rapl: Path = RAPL) -> list[EnergyCounter]:
    """Those of this machine that may be read."""
    found: list[EnergyCounter] = []
    for folder in sorted(rapl.glob("intel-rapl:*")):
        try:
            # Others are parts of packages, or (psys) the whole platform with all of them in it.
            if (folder / "name").read_text().startswith("package-"):
                found.append(Rapl(folder))
        except (OSError, ValueError) as error:
            logger.info("the energy of %s is not counted: %s", folder.name, error)
    return found + _gpus()


def _gpus() -> list[EnergyCounter]:
    """The GPUs of this machine; none without NVIDIA's library, or where they count nothing."""
    found: list[EnergyCounter] = []
    try:
        import pynvml  # noqa: PLC0415 - comes with vLLM's CUDA build only

        pynvml.nvmlInit()
        num_gpus = pynvml.nvmlDeviceGetCount()
    except ImportError:
        return []
    except Exception as error:  # noqa: BLE001 - NVML has an error for everything
        logger.info("the energy of GPUs is not counted: %s", error)
        return []
    for index in range(num_gpus):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            found.append(Nvml(partial(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle)))
        except Exception as error:  # noqa: BLE001 - as above
            logger.info("the energy of GPU %d is not counted: %s", index, error)
    return found


class Energy:
    """Reads the counters from time to time, and says whose it was.

    Args:
        counters: at least one.
        metrics: where it is shown, and where the FLOPs of requests are read.

    """

    def __init__(self, counters: Sequence[EnergyCounter], metrics: Metrics) -> None:
        self._counters = counters
        self._metrics = metrics
        self._total = metrics.page.counter("energy_joules_total", "Energy that the machine's counters counted.", ["source"])
        self._shared = metrics.page.counter(
            "request_energy_joules_total", "Energy counted while requests ran, by their share of the FLOPs.", Labels._fields
        )  # fmt: skip
        self._done: Counter[Labels] = Counter()
        self._pending = 0.0

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                gained = await asyncio.to_thread(lambda: [counter.read() for counter in self._counters])
            except Exception as error:  # noqa: BLE001 - a driver may go away under a server that need not
                logger.warning("energy is no longer counted: %s", error)
                return
            self.take(gained)

    def take(self, gained: Sequence[float]) -> None:
        """Book what each counter gained since the last time."""
        for counter, joules in zip(self._counters, gained, strict=True):
            self._total.labels(counter.source).inc(joules)
        done = self._metrics.flops()
        news = {labels: flops - self._done[labels] for labels, flops in done.items() if flops > self._done[labels]}
        self._done = done
        self._pending += sum(gained)
        total = sum(news.values())
        for labels, flops in news.items():
            self._shared.labels(*labels).inc(self._pending * flops / total)
        # A branch is booked when it ends: until then what it burns waits for it.
        if total or not self._metrics.num_in_flight:
            self._pending = 0.0
