"""Keeps the pools of several models in the repository, so that everything that is fitted to them can be fitted again.

`python -m benchmarks.pools unpack FOLDER` writes them to FOLDER/MODEL/SPLIT, where `ponder calibrate` can add questions to them, and
`python -m benchmarks.pools pack FOLDER` writes the files of `benchmarks/pools` anew. A packed pool has no token ids, which no replay
reads, and two decimals of its log-probabilities.
"""

import argparse
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.routing.pool_file import POOL

PACKED = Path(__file__).parent / "pools"
DECIMALS = 2
IDS = ("token_ids", "inserted_ids", "prefix")
NUMBERS = ("logprobs", "margins", "entropies")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pools", description=__doc__)
    parser.add_argument("what", choices=("pack", "unpack"))
    parser.add_argument("folder", type=Path, help="with a folder for each model, which has a folder for each split")
    arguments = parser.parse_args()
    work: Callable[[Path], None] = {"pack": pack, "unpack": unpack}[arguments.what]
    work(arguments.folder)


def pack(folder: Path) -> None:
    """Write each pool of the folder to a packed file, `MODEL-SPLIT.jsonl.xz`."""
    PACKED.mkdir(exist_ok=True)
    for path in sorted(folder.glob(f"*/*/{POOL}")):
        settings, *entries = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
        lines = [json.dumps(one, separators=(",", ":")) for one in (settings, *map(_without_ids, entries))]
        packed = lzma.compress(("\n".join(lines) + "\n").encode(), preset=9)
        (PACKED / f"{path.parent.parent.name}-{path.parent.name}.jsonl.xz").write_bytes(packed)


def unpack(folder: Path) -> None:
    """Write each packed pool into the folder. A pool that is there already stays."""
    for path in sorted(PACKED.glob("*.jsonl.xz")):
        model, _, split = path.name.removesuffix(".jsonl.xz").rpartition("-")
        target = folder / model / split / POOL
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(lzma.decompress(path.read_bytes()))


def _without_ids(value: Any) -> Any:
    """Return an entry of a pool, or a part of one, with zeros in place of token ids, and with short numbers."""
    if isinstance(value, list):
        return [_without_ids(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: [0] * len(one) if key in IDS
        else [round(number, DECIMALS) for number in one] if key in NUMBERS
        else _without_ids(one)
        for key, one in value.items()
    }  # fmt: skip


if __name__ == "__main__":
    main()
