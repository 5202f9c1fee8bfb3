"""A server with adapters to ask, and what a label stands for: one model with its adapters, so that no two are mixed in one file."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from adapters.weights import digest_of
from app.lab.server import preloaded
from benchmarks import servers
from scripts.generate_docs import RESULTS

FOLDER = RESULTS / "suite"


@contextmanager
def serving(model: str, adapters: Mapping[str, Path], keys: list[str], label: str, kv_gib: int, *more: str) -> Iterator[str]:
    """The URL of a server of its own, with adapters by name; `more`: options of `ponder serve`."""
    options = [*more, "--model", model, "--api-keys", ",".join(keys), "--max-n", "256", "--max-branches-per-key", "4096"]
    with preloaded(adapters) as served, servers.ponder(*options, *served, name=f"suite {label}", kv_gib=kv_gib) as server:
        yield server.url


def claim(label: str, model: str, adapters: Mapping[str, Path], folder: Path = FOLDER) -> Path:
    """The file for a label's answers. Ends the process when the label stands for another model or other adapters."""
    content = {name: digest_of(place)[:12] for name, place in sorted(adapters.items())}
    setup = {"model": model, "adapters": content}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{label}.setup"
    if not path.exists():
        path.write_text(json.dumps(setup) + "\n", encoding="utf-8")
    if (known := json.loads(path.read_text(encoding="utf-8"))) != setup:
        sys.exit(f"{label} stands for {known}, not for {setup}: choose another --label, or take {label}.* away")
    return folder / f"{label}.jsonl"
