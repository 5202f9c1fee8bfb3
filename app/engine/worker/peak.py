"""How many FLOPs a second the engine's device does at best: measured, since a table knows neither throttling nor a share of a machine.

Runs in the engine's worker process, with its threads, and imports nothing of vLLM.
"""

import time
from typing import Any

import torch

START_SIZE = 512
MAX_SIZE = 8192
ENOUGH_S = 0.02
"""A product that takes as long is no longer ruled by what surrounds it."""

REPEATS = 5
PATIENCE_S = 0.3
"""Of one size: a format that the device only emulates may take for ever."""


class PeakMeasure:
    """Methods that vLLM mixes into its worker class."""

    model_runner: Any

    def ponder_measure_peak(self) -> float:
        """FLOPs a second of a square matrix product in the model's number format; the best of some, a second at most."""
        return measure_peak(self.model_runner.device, self.model_runner.dtype)


def measure_peak(device: torch.device, dtype: torch.dtype) -> float:
    """See `PeakMeasure`; 0 where the device has no room for it."""
    best, size = 0.0, START_SIZE
    try:
        while size <= MAX_SIZE:
            seconds = _seconds(size, device, dtype)
            best = max(best, 2 * size**3 / seconds)
            if seconds >= ENOUGH_S:
                break
            size *= 2
    except RuntimeError:  # out of memory, or no such product on this device: what was measured before stands
        pass
    return best


def _seconds(size: int, device: torch.device, dtype: torch.dtype) -> float:
    """The shortest of some products."""
    left, right = (torch.full((size, size), 0.5, device=device, dtype=dtype) for _ in range(2))
    taken: list[float] = []
    while len(taken) < REPEATS and sum(taken) < PATIENCE_S:
        start = time.perf_counter()
        (left @ right)[0, 0].item()  # reading a number waits for the device
        taken.append(time.perf_counter() - start)
    return max(min(taken), 1e-9)
