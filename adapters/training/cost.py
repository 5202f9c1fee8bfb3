"""Counts what a run computes, batch by batch, so that its cost is exact and survives a restart."""

import json
import resource
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from adapters.disk import write_whole
from adapters.training.data import IGNORED
from adapters.training.ports import BatchPass, FlopsCounter, RunCost

COST_FILE = "tally.json"
"""In each checkpoint. The name is that of ponder 0.1, whose checkpoints can be resumed."""

LABELS = "verifier_labels"
"""Name of the column of a verifier's labels among the inputs of a batch."""


def read_cost(checkpoint: Path) -> RunCost:
    """Return the cost up to a checkpoint; zero where none was written."""
    path = checkpoint / COST_FILE
    return RunCost(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else RunCost()


def write_cost(cost: RunCost, checkpoint: Path) -> None:
    """Write the cost up to a checkpoint into its folder."""
    write_whole(checkpoint / COST_FILE, json.dumps(asdict(cost)))


class RunMeter:
    """Adds up what a trainer computes.

    Args:
        flops_counter: of the model that is trained.
        before: what earlier starts of the run have cost.

    """

    def __init__(self, flops_counter: FlopsCounter, before: RunCost) -> None:
        self._flops_counter = flops_counter
        self._before = before
        self._tokens = 0
        self._flops = 0
        self._start = time.monotonic()

    def add(self, inputs: Mapping[str, Any], *, has_backward: bool, skips_prompts: bool) -> None:
        """Count one batch; see `batch_pass`."""
        batch = batch_pass(inputs, has_backward=has_backward, skips_prompts=skips_prompts)
        self._tokens += batch.tokens
        self.charge(self._flops_counter(batch))

    def charge(self, flops: int) -> None:
        """Add FLOPs that another model, such as a teacher, computed for this run."""
        self._flops += flops

    @property
    def cost(self) -> RunCost:
        """The cost of all starts together, up to now."""
        return RunCost(
            tokens=self._before.tokens + self._tokens,
            flops=self._before.flops + self._flops,
            seconds=self._before.seconds + time.monotonic() - self._start,
            peak_bytes=max(self._before.peak_bytes, peak_bytes()),
        )


def batch_pass(inputs: Mapping[str, Any], *, has_backward: bool, skips_prompts: bool = False) -> BatchPass:
    """Return the sizes of one pass over a batch.

    Args:
        inputs: `input_ids` [rows, tokens], with `position_ids` that start again at each packed example, or an
            `attention_mask`.
        has_backward: whether the pass is forward and backward.
        skips_prompts: whether logits are computed only where something is learned, and once more in the backward pass.
            Otherwise they are computed at every position, or once a row where a verifier is trained.

    """
    tokens = rows = inputs["input_ids"].numel()
    if LABELS in inputs:
        rows = len(inputs[LABELS])
    elif skips_prompts:
        rows = int((inputs["labels"][:, 1:] != IGNORED).sum())
    positions = inputs.get("position_ids")
    if positions is None:
        lengths = inputs["attention_mask"].sum(-1)
        pairs = int((lengths * (lengths + 1) // 2).sum())
    else:
        pairs = int((positions + 1).sum())
    return BatchPass(tokens, pairs, rows, rows if skips_prompts and has_backward else 0, has_backward)


def peak_bytes() -> int:
    """Return the most memory that this process has held: the GPU's where it computes on one."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux reports KiB
