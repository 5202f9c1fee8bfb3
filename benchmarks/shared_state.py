"""What the state costs that front ends share: the processor time of a real Valkey and of one front end, while nobody asks anything.

The front ends are in this process. Each tells several times a second how many branches each key has, and reads what all others told.
"""

import asyncio
import os
import shutil
import subprocess
import time
from contextlib import AsyncExitStack
from typing import Any

import psutil
import uvloop

from app.lab.server import free_port
from app.shared.state import SharedState
from benchmarks.report import Table

SEVERAL = ((2, 10), (10, 10), (40, 10), (40, 200), (40, 1000), (100, 10))
"""Numbers of front ends and of keys that have branches."""


def run(*, is_quick: bool) -> Table:
    """Measure each number of front ends and keys."""
    table = Table("shared_state", "Shared state of front ends that have nothing to do")
    for front_ends, keys in SEVERAL[: 2 if is_quick else None]:
        table.rows.append(uvloop.run(_measure(front_ends, keys, 2 if is_quick else 10)))
    return table


async def _measure(front_ends: int, keys: int, seconds: float) -> dict[str, Any]:
    port = free_port()
    program = shutil.which("valkey-server", path=f"{os.environ.get('PATH', '')}:.tools/bin")
    if program is None:
        raise SystemExit("there is no valkey-server: `make tools` brings it")
    server = await asyncio.create_subprocess_exec(
        program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", stdout=subprocess.DEVNULL
    )
    try:
        valkey, me = psutil.Process(server.pid), psutil.Process()
        states = [
            SharedState(f"redis://127.0.0.1:{port}/0", "ponder", f"http://10.0.0.{n}:8000", ("key",)) for n in range(front_ends)
        ]
        branches = {f"{number:064x}": 3 for number in range(keys)}
        async with AsyncExitStack() as stack:
            for one in states:
                one.publish_branches(lambda: branches)
                await stack.enter_async_context(one.running())
            await asyncio.sleep(2)
            beats: list[float] = []
            counter = asyncio.create_task(_note_beats(states[0], beats))
            before, start = (_seconds(valkey), _seconds(me)), time.monotonic()
            await asyncio.sleep(seconds)
            elapsed = time.monotonic() - start
            counter.cancel()
            shares = [(_seconds(one) - was) / elapsed for one, was in zip((valkey, me), before, strict=True)]
    finally:
        server.terminate()
        await server.wait()
    return {
        "front ends": front_ends,
        "keys with branches": keys,
        "beats a second": round(len(beats) / elapsed, 1),
        "Valkey, share of a processor": f"{shares[0]:.1%}",
        "one front end": f"{shares[1] / front_ends:.1%}",
    }


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def _note_beats(state: SharedState, beats: list[float]) -> None:
    while True:
        await state.front_ends.next_beat()
        beats.append(time.monotonic())
