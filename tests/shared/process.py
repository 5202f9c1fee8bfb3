"""A front end over the scripted engine in a process of its own: `python -m tests.shared.process SECONDS_PER_TOKEN NAME=VALUE…`."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import uvicorn
import uvloop

from tests.tools import ROOT


class Process:
    """One front end, which a test may kill."""

    def __init__(self, port: int, folder: Path, *, seconds_per_token: float = 0.0, **settings: object) -> None:
        folder.mkdir(exist_ok=True)
        own = {"port": port, "policy_dir": folder / "policies", "shipped_adapters": False, **settings}
        words = [f"{name}={value}" for name, value in own.items()]
        command = [sys.executable, "-m", "tests.shared.process", str(seconds_per_token), *words]
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / "log"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=dict(os.environ))

    def wait(self) -> None:
        """Until it is ready."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if httpx.get(f"{self.url}/ready").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        pytest.fail(f"the front end did not start:\n{self._log.read_text()[-4000:]}")

    def kill(self) -> None:
        """End it as a power cut does."""
        self._process.kill()
        self._process.wait()


async def _serve(seconds_per_token: float, **settings: str) -> None:
    from app.engine.scripted import ScriptedEngine, cycle
    from app.main import create_app
    from app.settings import Settings

    read = Settings(**settings)
    app = create_app(read, ScriptedEngine(cycle(["word " * 500]), seconds_per_token=seconds_per_token))
    await uvicorn.Server(uvicorn.Config(app, port=read.port, log_level="warning")).serve()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as `ponder serve` does
        runner.run(_serve(float(sys.argv[1]), **dict(word.split("=", 1) for word in sys.argv[2:])))
