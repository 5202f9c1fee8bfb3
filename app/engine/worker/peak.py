"""Measures the FLOPs a second that the engine's device reaches at best. Utilisation is a share of it.

A table of devices would be wrong where a device is throttled, or where the server has only a share of a machine. The measurement runs
in vLLM's worker process, so that it uses the same threads as the model.
"""

import time
from typing import Any

import torch

START_SIZE = 512
"""Rows and columns of the first matrix; doubled until a product takes `ENOUGH_S`."""

MAX_SIZE = 8192
ENOUGH_S = 0.02
"""When a product takes this many seconds, the overhead around it no longer matters."""

REPEATS = 5
"""Products of each size, of which the fastest counts."""

MAX_SECONDS_PER_SIZE = 0.3
"""No more products of a size are started after this many seconds. Formats that the device only emulates take very long."""


class PeakMeasure:
    """Methods for vLLM's worker class."""

    model_runner: Any

    def ponder_measure_peak(self) -> float:
        """Return the FLOPs a second of a square matrix product in the model's number format. It takes about a second."""
        return measure_peak(self.model_runner.device, self.model_runner.dtype)


def measure_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Return the most FLOPs a second of products of several sizes; 0 where the device has no memory for the smallest."""
    best, size = 0.0, START_SIZE
    try:
        while size <= MAX_SIZE:
            seconds = _seconds(size, device, dtype)
            best = max(best, 2 * size**3 / seconds)
            if seconds >= ENOUGH_S:
                break
            size *= 2
    except RuntimeError:  # out of memory, or the device has no such product: the sizes before it count
        pass
    return best


def _seconds(size: int, device: torch.device, dtype: torch.dtype) -> float:
    """Return the seconds of the fastest of some products of one size."""
    left, right = (torch.full((size, size), 0.5, device=device, dtype=dtype) for _ in range(2))
    taken: list[float] = []
    while len(taken) < REPEATS and sum(taken) < MAX_SECONDS_PER_SIZE:
        start = time.perf_counter()
        (left @ right)[0, 0].item()  # reading a number waits until the device is done
        taken.append(time.perf_counter() - start)
    return max(min(taken), 1e-9)
