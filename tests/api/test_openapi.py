"""Whatever is sent, by the OpenAPI document or against it, no reply is a 5xx or has an undocumented status."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from app.engine.scripted import ScriptedEngine, cycle
from app.main import create_app
from app.settings import Settings

HERE = Path(__file__).parent
SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A server on the loopback interface over the scripted engine."""
    listener = socket.create_server(("127.0.0.1", 0))
    (tmp_path / "import").mkdir()
    settings = Settings(
        max_request_seconds=5,
        api_keys="key",
        admin_keys="key",
        adapter_dir=tmp_path / "adapters",
        adapter_import_dir=tmp_path / "import",
    )
    app = create_app(settings, ScriptedEngine(cycle(["It is 42.", "41", '{"a": 1}'])))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(20)


@pytest.mark.timeout(900)  # there are three times as many fields as when five minutes were enough
def test_schemathesis_finds_nothing(url: str) -> None:
    """Schemathesis runs its examples, coverage, fuzzing and stateful phases with all its checks."""
    run = subprocess.run(
        [SCHEMATHESIS, "--config-file", HERE / "schemathesis.toml", "run", f"{url}/openapi.json",
         "--header", "Authorization: Bearer key", "--checks", "all", "--phases", "examples,coverage,fuzzing,stateful",
         "--max-examples", "60", "--seed", "1", "--suppress-health-check", "all", "--no-color",
         "--request-timeout", "20", "--max-failures", "20"],
        capture_output=True, text=True, timeout=880,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(HERE)},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2000:]
