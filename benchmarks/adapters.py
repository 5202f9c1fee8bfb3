"""Throughput with active adapters: ponder against vLLM's own server with the same adapters and flags, and the base model."""

import asyncio
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import httpx

from adapters.weights import BaseModel
from app.engine.architecture import Architecture
from app.engine.weights.default_model import ensure_default_model
from app.settings import Settings
from benchmarks import load, servers
from benchmarks.report import Table
from tests import peft_folder

COUNT = 8
RANK = 16
CONCURRENCY = 16
TOKENS = 48


def run(*, is_quick: bool) -> Table:
    """Measure both servers in turn. Both hold all adapters from the start."""
    with tempfile.TemporaryDirectory() as folder:
        adapters = write_adapters(Path(folder))
        return asyncio.run(_measure(adapters, rounds=2 if is_quick else 5))


def write_adapters(folder: Path) -> dict[str, Path]:
    """Write adapters of rank 16 for all seven modules of the embedded model, with small random weights."""
    config = json.loads((ensure_default_model(Settings().cache_dir.expanduser(), print) / "config.json").read_text())
    architecture = Architecture.from_config(config)
    base = BaseModel(servers.MODEL, architecture.num_layers, architecture.linear_modules)
    return {
        f"random-{seed}": peft_folder.write(
            folder / str(seed), base, rank=RANK, modules=base.modules, seed=seed, scale=0.005
        )
        for seed in range(COUNT)
    }  # fmt: skip


async def _measure(adapters: dict[str, Path], rounds: int) -> Table:
    table = Table("adapters", f"Tokens a second with adapters live (rank {RANK}, all modules, {CONCURRENCY} at a time)")
    slots = ("--adapter-slots", str(COUNT), "--max-adapter-rank", str(RANK))
    with servers.ponder(*slots) as ours, servers.vllm(adapters, RANK) as theirs:
        async with httpx.AsyncClient(base_url=ours.url, timeout=600) as client:
            for name, folder in adapters.items():
                files = [
                    ("files", (file, (folder / file).read_bytes()))
                    for file in ("adapter_config.json", "adapter_model.safetensors")
                ]
                (await client.post("/v1/adapters", data={"name": name}, files=files)).raise_for_status()
        await load.warm_up(ours, theirs)
        names = [*adapters]
        loads = {"base model": [servers.MODEL], **{f"{count} live": names[:count] for count in (1, 4, COUNT)}}
        loads["base and 8"] = [servers.MODEL, *names]
        pairs: dict[str, list[tuple[float, float]]] = {what: [] for what in loads}
        for number in range(rounds):
            for what, models in loads.items():
                speeds = {}
                for server in (ours, theirs) if number % 2 else (theirs, ours):
                    run = await load.direct(server, CONCURRENCY, CONCURRENCY, TOKENS, 10_000 * number, models=models)
                    speeds[server.name] = run.tokens_per_second
                pairs[what].append((speeds["ponder"], speeds["vllm"]))
    base = statistics.median(ours for ours, _ in pairs["base model"])
    table.rows = [_row(what, measured, base) for what, measured in pairs.items()]
    return table


def _row(what: str, pairs: list[tuple[float, float]], base: float) -> dict[str, Any]:
    ours = statistics.median(a for a, _ in pairs)
    return {
        "adapters": what,
        "ponder tokens/s": round(ours, 1),
        "vLLM tokens/s": round(statistics.median(b for _, b in pairs), 1),
        "ratio to vLLM": round(statistics.median(a / b for a, b in pairs), 3),
        "ratio to base": round(ours / base, 3),
    }
