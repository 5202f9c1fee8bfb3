"""Checks an adapter's tensors against the base model: names, shapes, dtypes and the size of the numbers.

Executes nothing.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from adapters.config import AdapterConfig
from adapters.errors import AdapterRefused

WEIGHTS_FILE = "adapter_model.safetensors"
MAX_HEADER_BYTES = 16_777_216
"""A LoRA of a large model has some thousands of tensors, with about 100 bytes of header each."""

CHUNK = 1 << 22
"""Numbers that are checked at a time, to bound the memory that this takes."""

_TENSOR = re.compile(r"base_model\.model\.model\.layers\.(\d{1,4})\.(?:self_attn|mlp)\.(\w+)\.lora_(A|B)\.weight")
MAX_MAGNITUDE = 1000.0
"""The largest magnitude of a number; for B's it is divided by the scale. Trained numbers are a few units; larger ones
overflow."""

_BITS = {"F32": ("<u4", 32), "F16": ("<u2", 16), "BF16": ("<u2", 16)}
"""dtype -> (numpy type of an integer of that width, bits)."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """The served base model, as far as adapters must fit it.

    Attributes:
        name: of the model.
        num_layers: of the model.
        modules: linear module -> (inputs, outputs), the same in all layers.

    """

    name: str
    num_layers: int
    modules: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Weights:
    """What the headers say of the tensors.

    `parameters` is how many numbers they have together; `modules` are those that have some.
    """

    parameters: int
    dtype: str
    modules: tuple[str, ...]


def read_weights(path: Path, config: AdapterConfig, base: BaseModel) -> Weights:
    """Return what the headers of a file say, which must fit config and base model; raises `AdapterRefused`."""
    _header_length(path)  # before safetensors reads a header of any length into memory
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is not a dict
            tensors = {name: (one.get_dtype(), tuple(one.get_shape())) for name, one in slices.items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise _refused(f"it is not a valid safetensors file: {error}") from error
    if not tensors:
        raise _refused("it holds no tensors")
    found: dict[tuple[int, str], set[str]] = {}  # (layer, module) -> which of A and B there are
    for name, (dtype, shape) in tensors.items():
        layer, module, side = _fitting(name, dtype, shape, config, base)
        found.setdefault((layer, module), set()).add(side)
    for (layer, module), sides in found.items():
        if sides != {"A", "B"}:
            raise _refused(f"layer {layer}'s {module} has lora_{sides.pop()} only")
    dtypes = sorted({dtype for dtype, _ in tensors.values()})
    parameters = sum(int(np.prod(shape)) for _, shape in tensors.values())
    return Weights(parameters, "+".join(dtypes), tuple(sorted({module for _, module in found})))


def _fitting(name: str, dtype: str, shape: tuple[int, ...], config: AdapterConfig, base: BaseModel) -> tuple[int, str, str]:
    """Return (layer, module, `A` or `B`) of a tensor; raises `AdapterRefused` when it does not fit."""
    match = _TENSOR.fullmatch(name)
    if match is None:
        raise _refused(f"there is no place for a tensor named `{name[:200]}` in a LoRA of this model")
    layer, module, side = int(match[1]), match[2], match[3]
    if module not in base.modules:
        raise _refused(f"`{module}` is not a module of {base.name}; there are {', '.join(base.modules)}")
    if module not in {target.rsplit(".", 1)[-1] for target in config.target_modules}:
        raise _refused(f"`{module}` is not among the config's target_modules")
    if layer >= base.num_layers:
        raise _refused(f"it has a layer {layer}, but {base.name} has {base.num_layers}: it was made for another base model")
    if dtype not in _BITS:
        raise _refused(f"`{name}` is {dtype}; accepted are {', '.join(_BITS)}")
    inputs, outputs = base.modules[module]
    expected = (config.r, inputs) if side == "A" else (outputs, config.r)
    if shape != expected:
        raise _refused(f"`{name}` has shape {list(shape)}, where rank {config.r} on {base.name} needs {list(expected)}")
    return layer, module, side


def check_numbers(path: Path, scale: float) -> None:
    """Raise `AdapterRefused` when a number is infinite, not a number, or beyond `MAX_MAGNITUDE`.

    Without the sign bit, the bits of floating-point numbers are ordered like the numbers, with infinities and NaNs
    above all others. So one comparison of integers finds all three kinds, also in bfloat16, which numpy does not have.

    Args:
        path: a file that `read_weights` has accepted.
        scale: the adapter's, see `AdapterConfig.scale`.

    """
    length = _header_length(path)
    with path.open("rb") as file:
        file.seek(8)
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)  # safetensors' free text, no tensor
    for name, tensor in header.items():
        kind, width = _BITS[tensor["dtype"]]
        limit = MAX_MAGNITUDE / scale if ".lora_B." in name else MAX_MAGNITUDE
        highest, unsigned = _bits_of(limit, tensor["dtype"]), (1 << (width - 1)) - 1
        begin, end = tensor["data_offsets"]
        # Mapped, not read: the weights may be larger than the memory that is free.
        bits = np.memmap(path, dtype=kind, mode="r", offset=8 + length + begin, shape=(end - begin) // np.dtype(kind).itemsize)
        for start in range(0, len(bits), CHUNK):
            if ((bits[start : start + CHUNK] & unsigned) > highest).any():
                raise _refused(f"`{name}` holds numbers that are infinite, not numbers, or beyond {limit:g}")


def _bits_of(limit: float, dtype: str) -> int:
    """Return the bits of a limit in a dtype, or those of the largest finite number where the limit is larger."""
    if dtype == "F16":
        return int(np.float16(min(limit, 65504.0)).view(np.uint16))
    bits = int(np.float32(min(limit, float(np.finfo(np.float32).max))).view(np.uint32))
    return bits if dtype == "F32" else bits >> 16  # bfloat16 is the upper half of a float32


def _header_length(path: Path) -> int:
    """Return the length of the header in bytes; it is checked before anything parses the header."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER_BYTES:
        raise _refused(f"its header claims {length} bytes, more than {MAX_HEADER_BYTES}")
    return length


def _refused(why: str) -> AdapterRefused:
    return AdapterRefused(f"{WEIGHTS_FILE}: {why}.", parameter=WEIGHTS_FILE)


def digest_of(folder: Path) -> str:
    """Return the SHA-256 of an adapter's weights file, in hexadecimal. It identifies adapters outside of the store."""
    with (folder / WEIGHTS_FILE).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
