"""Serves one model after another on real vLLM, in one process that imports vLLM once: importing takes longer than all else of a start.

    python -m tests.vllm.serve_models JOBS.json

A job has a `model` (a folder), `options` of vLLM's engine, and `bodies` of chat completions. The first body is asked alone, the others at
once. A line of JSON for each job has the `replies`, and by how much the sums of both servers' counters have `grown`, or an `error`.
"""

import asyncio
import importlib
import json
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

COUNTERS = {
    "asked": ("vllm:prompt_tokens_total", {}),
    "generated": ("vllm:generation_tokens_total", {}),
    "decoded": ("ponder_tokens_total", {"kind": "decoded"}),
    "estimated": ("ponder_flops_is_estimate", {}),
    "drafted": ("vllm:spec_decode_num_draft_tokens_total", {}),
}


async def serve(model: Path, options: list[str], bodies: list[dict[str, Any]]) -> dict[str, Any]:
    """Serve one model over the application of `ponder serve`, and ask it."""
    import httpx

    from app.engine.build import build_engine
    from app.main import create_app
    from app.settings import Settings
    from tests.counted import Counted

    with tempfile.TemporaryDirectory() as empty:
        settings = Settings(
            model=str(model), kv_cache_gib=1, adapter_slots=0, max_branches=8, adapter_dir=Path(empty), policy_dir=Path(empty),
            engine_args=tuple(options),
        )  # fmt: skip
        engine = build_engine(settings)
        fork(engine)
        app = create_app(settings, engine)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):

            async def counted() -> dict[str, float]:
                page = Counted((await client.get("/metrics")).text)
                return {key: page.sum(name, **labels) for key, (name, labels) in COUNTERS.items() if page.has(name)}

            async def ask(body: dict[str, Any]) -> dict[str, Any]:
                reply = await client.post("/v1/chat/completions", json={"model": model.name, **body})
                return {"status": reply.status_code, **reply.json()}

            before = await counted()
            replies = [await ask(bodies[0]), *await asyncio.gather(*map(ask, bodies[1:]))]
            after = await counted()
            return {
                "replies": replies,
                "grown": {key: value - before.get(key, 0) for key, value in after.items()},
                "is_estimate": after["estimated"],
                "slots": engine.card.max_branches,
                "peak": engine.card.peak_flops,
            }


async def do(job: dict[str, Any]) -> dict[str, Any]:
    """Return what comes of one job."""
    started = time.monotonic()
    try:
        async with asyncio.timeout(400):
            told = await serve(Path(job["model"]), job["options"], job["bodies"])
    except Exception as error:  # noqa: BLE001 - whatever it is, the other jobs go on
        traceback.print_exc()
        told = {"error": f"{type(error).__name__}: {error}"}
    return {**told, "seconds": round(time.monotonic() - started, 1)}


def fork(engine: Any) -> None:
    """Let vLLM fork its processes, as it does on GPUs, and look at model classes in this one. Else each would import everything again.

    Its CPU back end does so for the threads of OpenMP, which do not survive a fork. This process has none.
    """
    import torch
    from vllm.model_executor.models import registry

    for module in ("vllm.v1.engine.core", "vllm.v1.executor.multiproc_executor", "vllm.v1.worker.cpu_worker"):
        importlib.import_module(module)
    torch.set_num_threads(1)
    registry._run_in_subprocess = lambda look: look()
    create = engine._arguments.create_engine_config

    def create_and_fork() -> Any:
        config = create()
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
        return config

    engine._arguments.create_engine_config = create_and_fork


def main(jobs: Path) -> None:
    """Do all jobs of a file."""
    for job in json.loads(jobs.read_text(encoding="utf-8")):
        sys.stdout.write(json.dumps(asyncio.run(do(job))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
