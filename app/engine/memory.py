"""The memory that a server on a processor will take: added up before it starts, and compared with what is free.

On a GPU vLLM measures its own memory, and takes the share that `--gpu-memory-utilization` gives it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.engine.architecture import Architecture
from app.engine.flops.config import INNER, MALFORMED, attempt, number, text_config
from app.engine.free_memory import free_bytes
from app.engine.weights.conversions import ModelUnavailable

GIB = 1024**3

MAX_KV_GIB = 16
"""The most memory for the KV cache that is chosen here; settings can ask for more."""

SERVER_BYTES = 750 * 1024**2
"""What the server's process takes: Python, torch, vLLM and the tokenizer. Measured."""

RANK_BYTES = 1300 * 1024**2
"""What the two processes of each rank take before they load anything. Measured."""

BATCH_TOKENS = 4096
"""Tokens that vLLM's CPU back end computes at once in a prefill, at most."""

ITEM_BYTES = {"float32": 4, "float": 4}
"""Bytes of one number by its format. All other formats have 2."""

_FLOATS = ("F64", "F32", "F16", "BF16")
"""Formats of numbers in safetensors files that vLLM converts to its own while it loads them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """What each part of the server takes, in bytes.

    Attributes:
        weights: of the model, on all ranks together; 0 where they are not on this machine yet.
        kv_cache: of all ranks.
        adapters: the LoRA slots.
        work: the values between layers while prompts are computed, and the logits.
        processes: Python and its libraries.
        free: what the machine and the limits of this control group leave.

    """

    weights: int
    kv_cache: int
    adapters: int
    work: int
    processes: int
    free: int

    @property
    def total(self) -> int:
        """All parts together."""
        return self.weights + self.kv_cache + self.adapters + self.work + self.processes

    def describe(self) -> str:
        """Return the sum as one line for the log."""
        parts = {
            "weights": self.weights,
            "KV cache": self.kv_cache,
            "adapter slots": self.adapters,
            "work space": self.work,
            "processes": self.processes,
        }
        told = ", ".join(f"{name} {value / GIB:.1f}" for name, value in parts.items() if value)
        return f"memory: about {self.total / GIB:.1f} GiB of {self.free / GIB:.1f} GiB that are free ({told})"

    def check(self) -> None:
        """Raise `ModelUnavailable` when the parts do not fit into what is free."""
        if self.total > self.free:
            raise ModelUnavailable(
                f"{self.describe()}: lower --kv-cache-gib, --adapter-slots or --max-branches, or take a smaller or a quantised model"
            )

    def with_default_cache(self, ranks: int) -> "MemoryPlan":
        """Return the plan with a KV cache that leaves room for a second server: at most a quarter of what is free, 1 GiB for a rank."""
        room = min(self.free // 4, self.free // 2 - (self.total - self.kv_cache)) // GIB
        return replace(self, kv_cache=ranks * max(1, min(MAX_KV_GIB, room // ranks)) * GIB)


def plan_memory(
    folder: Path | None,
    *,
    dtype: str,
    kv_cache: int | None,
    adapter_slots: int,
    adapter_rank: int,
    max_branches: int,
    ranks: int = 1,
    replicas: int = 1,
    free: int | None = None,
) -> MemoryPlan:
    """Return what a server will take.

    Args:
        folder: of the model; None for one that is not on this machine yet.
        dtype: number format of weights and activations, as vLLM names it.
        kv_cache: bytes of the KV cache of one rank; None for as many as leave room for a second server.
        adapter_slots: LoRA adapters that are held at the same time.
        adapter_rank: the rank for which a slot has room.
        max_branches: sequences that run at the same time.
        ranks: workers, of all kinds of parallelism.
        replicas: data-parallel ranks, each of which holds the model.
        free: bytes; tests pass them in place of what is read from the machine.

    """
    item = ITEM_BYTES.get(dtype, 2)
    config = {} if folder is None else read_config(folder)
    plan = MemoryPlan(
        weights=replicas * (0 if folder is None else weight_bytes(folder, item)),
        kv_cache=(kv_cache or 0) * ranks,
        adapters=replicas * _adapter_bytes(config, adapter_slots * adapter_rank * item),
        work=replicas * _work_bytes(config, item, max_branches),
        processes=SERVER_BYTES + ranks * RANK_BYTES,
        free=free_bytes() if free is None else free,
    )
    return plan.with_default_cache(ranks) if kv_cache is None else plan


def read_config(folder: Path) -> Mapping[str, Any]:
    """Return the config.json of a model's folder; an empty one where there is none that can be read."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def weight_bytes(folder: Path, item: int) -> int:
    """Return the bytes of a folder's weights when they are loaded, with floating-point numbers in `item` bytes each."""
    files = sorted(folder.glob("*.safetensors"))
    files = [path for path in files if not path.name.startswith("consolidated")] or files  # Mistral's copy of the others
    if not files:
        return sum(path.stat().st_size for path in folder.glob("*.bin"))
    return sum(_tensor_bytes(path, item) for path in files)


def _tensor_bytes(path: Path, item: int) -> int:
    """Return the bytes of a safetensors file's tensors; its size where its header cannot be read."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, size)))
        tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
        return sum(
            math.prod(tensor["shape"]) * item
            if tensor["dtype"] in _FLOATS
            else tensor["data_offsets"][1] - tensor["data_offsets"][0]
            for tensor in tensors
        )
    except (OSError, AttributeError, OverflowError, *MALFORMED):
        return size


def _adapter_bytes(config: Mapping[str, Any], per_width: int) -> int:
    """Return the bytes of LoRA slots that take `per_width` for each input and output of a linear module."""
    architecture = attempt(Architecture.from_config, config, None)
    if architecture is None:
        return 0
    return (
        per_width * architecture.num_layers * sum(inputs + outputs for inputs, outputs in architecture.linear_modules.values())
    )


def _work_bytes(config: Mapping[str, Any], item: int, max_branches: int) -> int:
    architecture = attempt(Architecture.from_config, config, None)
    if architecture is None:
        return 0
    widths = 8 * architecture.hidden_size + 3 * number(text_config(config), *INNER)
    return BATCH_TOKENS * widths * item + 4 * max_branches * architecture.vocab_size * 4  # logits, in four copies of float32
