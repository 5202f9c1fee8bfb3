"""Energy in joules, where the machine counts it: of processor packages by RAPL, of NVIDIA's GPUs by NVML.

The counters belong to the whole machine and include the work of other processes. What they gain between two readings is shared
among the requests in proportion to the FLOPs that they spent in the meantime. A meter books a branch when the branch ends, so the
energy of a long branch waits until then. Energy that is counted while no request runs is not attributed to any request.
"""

import asyncio
import logging
from collections import Counter as Tally
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from app.telemetry.metrics import Metrics
from app.telemetry.request_metrics import RequestLabels

logger = logging.getLogger("ponder")

RAPL = Path("/sys/class/powercap")
INTERVAL_S = 5.0
"""Seconds between two readings. RAPL's counters have 32 bits and wrap after a minute at the soonest: none is missed."""


class EnergyCounter(Protocol):
    """Counts the joules of one part of the machine. `source` is `rapl` or `nvml`."""

    source: str

    def read(self) -> float:
        """Return the joules since the last reading, or since the counter was made."""
        ...


class Rapl:
    """The counter of one processor package. Its file counts microjoules up to `max_energy_range_uj` and then starts at zero."""

    source = "rapl"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "energy_uj"
        self._range = int((folder / "max_energy_range_uj").read_text())
        self._last = int(self._path.read_text())

    def read(self) -> float:
        """Return the joules since the last reading."""
        now = int(self._path.read_text())
        gained, self._last = now - self._last, now
        return (gained if gained >= 0 else gained + self._range) / 1e6


class Nvml:
    """The counter of one GPU. `total` returns the millijoules since its driver was loaded."""

    source = "nvml"

    def __init__(self, total: Callable[[], int]) -> None:
        self._total = total
        self._last = total()

    def read(self) -> float:
        """Return the joules since the last reading."""
        now = self._total()
        gained, self._last = now - self._last, now
        return max(gained, 0) / 1e3


def find_counters(rapl: Path = RAPL) -> list[EnergyCounter]:
    """Return the counters of this machine that this process may read; none where there are none."""
    found: list[EnergyCounter] = []
    for folder in sorted(rapl.glob("intel-rapl:*")):
        try:
            # Other zones are parts of a package, or (psys) the whole platform: they would be counted twice.
            if (folder / "name").read_text().startswith("package-"):
                found.append(Rapl(folder))
        except (OSError, ValueError) as error:
            logger.info("the energy of %s is not counted: %s", folder.name, error)
    return found + _gpus()


def _gpus() -> list[EnergyCounter]:
    """Return a counter for each GPU that counts its energy; none without NVIDIA's library."""
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
    """Reads the counters every few seconds, and shares their joules among the requests.

    Args:
        counters: at least one.
        metrics: where the joules are exported, and where the FLOPs of requests are read.

    """

    def __init__(self, counters: Sequence[EnergyCounter], metrics: Metrics) -> None:
        self._counters = counters
        self._metrics = metrics
        self._total = metrics.registry.counter(
            "energy_joules_total", "Energy that the machine's counters counted, whoever used the machine.", ["source"]
        )
        self._shared = metrics.registry.counter(
            "request_energy_joules_total", "Energy counted while requests ran, shared among them by their FLOPs.", RequestLabels._fields
        )  # fmt: skip
        self._flops: Tally[RequestLabels] = Tally()
        self._pending = 0.0

    async def run(self) -> None:
        """Read the counters every `INTERVAL_S` seconds until this is cancelled, or until a counter fails."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                gained = await asyncio.to_thread(lambda: [counter.read() for counter in self._counters])
            except Exception as error:  # noqa: BLE001 - a driver may be unloaded; the server goes on without energy metrics
                logger.warning("energy is no longer counted: %s", error)
                return
            self.count(gained)

    def count(self, gained: Sequence[float]) -> None:
        """Count the joules that each counter gained since the last call."""
        for counter, joules in zip(self._counters, gained, strict=True):
            self._total.labels(counter.source).inc(joules)
        flops = self._metrics.flops()
        spent = {labels: total - self._flops[labels] for labels, total in flops.items() if total > self._flops[labels]}
        self._flops = flops
        self._pending += sum(gained)
        total = sum(spent.values())
        for labels, amount in spent.items():
            self._shared.labels(*labels).inc(self._pending * amount / total)
        # While requests run whose branches are not booked yet, the energy waits for them.
        if total or not self._metrics.num_in_flight:
            self._pending = 0.0
