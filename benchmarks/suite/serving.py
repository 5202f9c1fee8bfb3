"""A server with adapters to ask, and what a label stands for: one model with its adapters, so that no two are mixed in one file."""

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from adapters.config import CONFIG_FILE
from adapters.weights import WEIGHTS_FILE
from app.docs import RESULTS
from benchmarks import servers

FOLDER = RESULTS / "suite"
RANK = 16


@contextmanager
def serving(model: str, adapters: Mapping[str, Path], keys: list[str], label: str, kv_gib: int, *more: str) -> Iterator[str]:
    """The URL of a server of its own, with adapters by name; `more`: options of `ponder serve`."""
    options = [*more, "--model", model, "--api-keys", ",".join(keys), "--max-n", "256", "--max-branches-per-key", "4096"]
    with tempfile.TemporaryDirectory() as folder:
        for name, place in adapters.items():
            (Path(folder) / name).symlink_to(place.resolve())
        options += ["--adapter-slots", str(len(adapters) + 1 if adapters else 0)]
        if adapters:
            options += ["--adapter-preload-dir", folder, "--max-adapter-rank", str(_rank(adapters))]
        with servers.ponder(*options, name=f"suite {label}", kv_gib=kv_gib) as server:
            yield server.url


def _rank(adapters: Mapping[str, Path]) -> int:
    """The next power of two that is enough for all of them."""
    highest = max(json.loads((place / CONFIG_FILE).read_text(encoding="utf-8"))["r"] for place in adapters.values())
    return max(RANK, 1 << (int(highest) - 1).bit_length())


def claim(label: str, model: str, adapters: Mapping[str, Path], folder: Path = FOLDER) -> Path:
    """The file for a label's answers. Ends the process when the label stands for another model or other adapters."""
    content = {name: _digest(place / WEIGHTS_FILE) for name, place in sorted(adapters.items())}
    setup = {"model": model, "adapters": content}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{label}.setup"
    if not path.exists():
        path.write_text(json.dumps(setup) + "\n", encoding="utf-8")
    if (known := json.loads(path.read_text(encoding="utf-8"))) != setup:
        sys.exit(f"{label} stands for {known}, not for {setup}: choose another --label, or take {label}.* away")
    return folder / f"{label}.jsonl"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
