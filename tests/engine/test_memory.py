"""The memory that a server will take, before it starts."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from app.engine.memory import GIB, MemoryPlan, plan_memory, weight_bytes
from app.engine.weights.conversions import ModelUnavailable

CONFIG = {
    "model_type": "llama",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "vocab_size": 32000,
}


def weights(path: Path, tensors: dict[str, tuple[str, list[int], int]]) -> None:
    """Write the header of a safetensors file: names with their format, shape and bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (kind, shape, size) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a GiB of bfloat16 weights, of which only the header is written."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    weights(tmp_path / "model.safetensors", {"a": ("BF16", [1024, 524288], GIB)})
    return tmp_path


def plan(folder: Path | None, **changes: Any) -> MemoryPlan:
    """The plan for a server with these settings, where 32 GiB are free."""
    settings: dict[str, Any] = {
        "dtype": "bfloat16", "kv_cache": GIB, "adapter_slots": 0, "adapter_rank": 16, "max_branches": 64, "free": 32 * GIB,
    }  # fmt: skip
    return plan_memory(folder, **settings | changes)


def test_weights_count_in_the_format_in_which_they_are_loaded(tmp_path: Path) -> None:
    """Floating-point numbers take the format of the server, other numbers their own. A second copy in the folder is not loaded."""
    weights(tmp_path / "model-1.safetensors", {"a": ("BF16", [10, 10], 200), "b": ("I8", [10, 10], 100)})
    weights(tmp_path / "model-2.safetensors", {"c": ("F32", [50], 200), "d": ("F8_E4M3", [8], 8)})
    weights(tmp_path / "consolidated.safetensors", {"a": ("BF16", [10, 10], 200)})
    assert weight_bytes(tmp_path, 4) == 400 + 100 + 200 + 8
    assert weight_bytes(tmp_path, 2) == 200 + 100 + 100 + 8


def test_weights_of_other_formats_and_damaged_ones_count_by_size(tmp_path: Path) -> None:
    """The estimate never stops a start by an error of its own."""
    (tmp_path / "pytorch_model.bin").write_bytes(b"1" * 50)
    assert weight_bytes(tmp_path, 4) == 50
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    assert weight_bytes(tmp_path, 4) == 100


def test_all_parts_are_told(model: Path) -> None:
    """In one line, with what is free."""
    told = plan(model, adapter_slots=8)
    assert told.weights == GIB
    assert told.kv_cache == GIB
    for part in ("32.0 GiB that are free", "weights", "KV cache 1.0", "adapter slots", "work space", "processes"):
        assert part in told.describe()
    assert "adapter slots" not in plan(model).describe()


def test_adapter_slots_grow_with_their_rank(model: Path) -> None:
    """Inputs and outputs of the seven modules of each layer, times rank, times slots."""
    widths = 4 * (1024 + 1024) + 3 * (1024 + 4096)
    one = plan(model, adapter_slots=8).adapters
    assert one >= 16 * widths * 16 * 8 * 2
    assert plan(model, adapter_slots=8, adapter_rank=32).adapters == 2 * one


def test_each_rank_has_a_cache_and_each_replica_the_model(model: Path) -> None:
    """Tensor parallelism divides the weights, data parallelism repeats them."""
    one, divided, repeated = plan(model), plan(model, ranks=2), plan(model, ranks=2, replicas=2)
    assert divided.weights == one.weights
    assert repeated.weights == 2 * one.weights
    assert divided.kv_cache == repeated.kv_cache == 2 * one.kv_cache
    assert divided.processes > one.processes


def test_what_cannot_fit_is_refused_in_one_line(model: Path) -> None:
    """The message says what to lower."""
    plan(model).check()
    with pytest.raises(ModelUnavailable, match=r"of 3\.0 GiB that are free .*: lower --kv-cache-gib") as refused:
        plan(model, free=3 * GIB).check()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("free", [16, 24, 48])
def test_the_default_cache_leaves_room_for_a_second_server(model: Path, free: int) -> None:
    """A server that chooses its cache takes at most half of what is free, and its cache at most a quarter."""
    chosen = plan(model, kv_cache=None, free=free * GIB)
    assert 2 * chosen.total <= chosen.free
    assert GIB <= chosen.kv_cache <= free * GIB // 4


@pytest.mark.parametrize(("free", "ranks", "cache"), [(0, 1, 1), (0, 2, 2), (1000, 1, 16), (1000, 2, 32)])
def test_the_default_cache_has_bounds(model: Path, free: int, ranks: int, cache: int) -> None:
    """From one to sixteen GiB for each rank."""
    assert plan(model, kv_cache=None, free=free * GIB, ranks=ranks).kv_cache == cache * GIB


def test_a_model_that_is_not_here_yet_has_a_plan() -> None:
    """Without weights in the sum."""
    assert "weights" not in plan(None).describe()
