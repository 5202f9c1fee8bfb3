"""Eight-bit weights against the model's own format: tokens per second, measured in turn, and the size of the weights."""

import asyncio
import statistics
from pathlib import Path

from app.engine.weights.default_model import ensure_default_model
from app.engine.weights.int8 import ensure_int8
from app.settings import Settings
from benchmarks import load, servers
from benchmarks.report import Table

MODELS = Path("~/.cache/ponder-models").expanduser()
"""The folder of `benchmarks.fetch_models`. Models in it are measured too."""

TOKENS = 48


def run(*, is_quick: bool) -> Table:
    """Measure both servers in turn, without adapter slots, since int8 has none on processors without AMX."""
    cache = Settings().cache_dir.expanduser()
    table = Table("int8", "`--quantization int8` against the model's own weights (medians of rounds)")
    for folder in (ensure_default_model(cache, print), *(MODELS / name for name in ("coder-0.5b", "coder-1.5b"))):
        if not folder.is_dir():
            print(f"  {folder.name} was not fetched: python -m benchmarks.fetch_models {folder.name}")
            continue
        options = ("--model", str(folder), "--model-name", servers.MODEL, "--adapter-slots", "0")
        with (
            servers.ponder(*options, name=f"{folder.name} as it is", kv_gib=1) as plain,
            servers.ponder(*options, "--quantization", "int8", name=f"{folder.name} int8", kv_gib=1) as small,
        ):
            sizes = [_gib(place) for place in (folder, ensure_int8(folder, cache, print))]
            for concurrency in (1, 8, 32):
                speeds = asyncio.run(_speeds((plain, small), concurrency, rounds=1 if is_quick else 3))
                table.rows.append(
                    {
                        "model": folder.name,
                        "GiB": f"{sizes[0]:.2f} → {sizes[1]:.2f}",
                        "concurrency": concurrency,
                        "tokens/s": round(speeds[0], 1),
                        "tokens/s, int8": round(speeds[1], 1),
                        "ratio": round(speeds[1] / speeds[0], 2),
                    }
                )
    return table


async def _speeds(both: tuple[servers.Server, servers.Server], concurrency: int, rounds: int) -> list[float]:
    await load.warm_up(*both)
    found: list[list[float]] = [[], []]
    for number in range(rounds):
        for of_server, server in zip(found, both, strict=True):
            made = await load.direct(server, concurrency, max(2, concurrency), TOKENS, 1000 * (number + 1) + concurrency)
            of_server.append(made.tokens_per_second)
    return [statistics.median(speeds) for speeds in found]


def _gib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors")) / 2**30
