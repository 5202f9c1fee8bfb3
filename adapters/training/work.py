"""What a run computes, counted batch by batch, so that its cost is known to the token and survives a restart."""

import json
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from adapters.disk import write_whole
from adapters.training.data import IGNORED

TALLY_FILE = "tally.json"


@dataclass(frozen=True, slots=True)
class Work:
    """One pass over a batch.

    Attributes:
        tokens: positions that were computed, padding among them.
        pairs: of a token and one that it attends to, as the examples need them: the causal triangle of each.
        rows: of logits.
        rows_again: of those, how many are computed once more in the backward pass.
        learns: forward and backward, or forward alone.

    """

    tokens: int
    pairs: int
    rows: int
    rows_again: int
    learns: bool


Costs = Callable[[Work], int]
"""FLOPs of a piece of work."""


@dataclass
class Tally:
    """Sums over all starts of a run."""

    tokens: int = 0
    flops: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0

    @classmethod
    def read(cls, folder: Path) -> "Tally":
        """As a checkpoint has it; an empty one where there is none."""
        path = folder / TALLY_FILE
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else cls()

    def write(self, folder: Path) -> None:
        """Beside a checkpoint."""
        write_whole(folder / TALLY_FILE, json.dumps(asdict(self)))


class Meter:
    """Adds up what a trainer computes, from where the last start stopped."""

    def __init__(self, costs: Costs, before: Tally) -> None:
        self._costs = costs
        self._before = before
        self._tokens = 0
        self._flops = 0
        self._start = time.monotonic()

    def add(self, inputs: Mapping[str, Any], *, learns: bool, skips_prompts: bool) -> None:
        """Count one batch."""
        work = work_of(inputs, learns=learns, skips_prompts=skips_prompts)
        self._tokens += work.tokens
        self.charge(self._costs(work))

    def charge(self, flops: int) -> None:
        """Count what another model computed for this run."""
        self._flops += flops

    @property
    def tally(self) -> Tally:
        """All starts together."""
        return Tally(
            tokens=self._before.tokens + self._tokens,
            flops=self._before.flops + self._flops,
            seconds=self._before.seconds + time.monotonic() - self._start,
            peak_bytes=max(self._before.peak_bytes, peak_bytes()),
        )


def work_of(inputs: Mapping[str, Any], *, learns: bool, skips_prompts: bool = False) -> Work:
    """What a batch costs: `input_ids` [rows, tokens] with `position_ids` that begin anew at each packed example, or a mask.

    Logits are computed at every position, or only where something is learned (`skips_prompts`), and then once more in the backward
    pass; where a verdict is learned there is one for each row.
    """
    tokens = rows = inputs["input_ids"].numel()
    if "verdict" in inputs:
        rows = len(inputs["verdict"])
    elif skips_prompts:
        rows = int((inputs["labels"][:, 1:] != IGNORED).sum())
    positions = inputs.get("position_ids")
    if positions is None:
        lengths = inputs["attention_mask"].sum(-1)
        pairs = int((lengths * (lengths + 1) // 2).sum())
    else:
        pairs = int((positions + 1).sum())
    return Work(tokens, pairs, rows, rows if skips_prompts and learns else 0, learns)


def peak_bytes() -> int:
    """The most memory that this process has held: the GPU's where it computes on one."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
