"""Runs a server with adapters, and keeps the answers of each label, one model with its adapters, in a file of their own."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from adapters.weights import digest_of
from app.lab.server import preloaded
from benchmarks import servers
from benchmarks.report import RESULTS

FOLDER = RESULTS / "suite"


@contextmanager
def serving(model: str, adapters: Mapping[str, Path], keys: list[str], label: str, kv_gib: int, *more: str) -> Iterator[str]:
    """Run a server with adapters by name until the end of the block; yield its URL. `more` are options of `ponder serve`."""
    options = [*more, "--model", model, "--api-keys", ",".join(keys), "--max-n", "256", "--max-branches-per-key", "4096"]
    with preloaded(adapters) as served, servers.ponder(*options, *served, name=f"suite {label}", kv_gib=kv_gib) as server:
        yield server.url


def claim(label: str, model: str, adapters: Mapping[str, Path], folder: Path = FOLDER) -> Path:
    """Return the file for the answers of a label. Ends the process where the label has another model or other adapters."""
    content = {name: digest_of(place)[:12] for name, place in sorted(adapters.items())}
    setup = {"model": model, "adapters": content}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{label}.setup"
    if not path.exists():
        path.write_text(json.dumps(setup) + "\n", encoding="utf-8")
    if (known := json.loads(path.read_text(encoding="utf-8"))) != setup:
        sys.exit(f"{label} stands for {known}, not for {setup}: choose another --label, or remove {label}.*")
    return folder / f"{label}.jsonl"
