"""The wheel serves the embedded model: vLLM's processes find what they need of it by its own names."""

import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.server import ENVIRONMENT

pytestmark = pytest.mark.vllm

START_TIMEOUT_S = 400


def test_it_serves_the_embedded_model(installed: Path, tmp_path: Path) -> None:
    """One answer, by the command that pip installs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ("--port", str(port), "--kv-cache-gib", "1", "--adapter-dir", "adapters", "--policy-dir", "policies")
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [installed.with_name("ponder"), "serve", *options], cwd=tmp_path, stdout=log, stderr=log, env=ENVIRONMENT
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300) as client:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not _is_ready(client):
                if server.poll() is not None or time.monotonic() > deadline:
                    pytest.fail((tmp_path / "log").read_text(errors="replace")[-4000:])
                time.sleep(0.5)
            body = {"model": "reasoning", "messages": [{"role": "user", "content": "Calculate 17 + 25 + 8."}], "max_tokens": 64}
            reply = client.post(
                "/v1/chat/completions", json={**body, "temperature": 0, "ponder": {"strategy": "direct"}}
            ).json()
        assert reply["choices"][0]["message"]["content"].strip()
        assert reply["ponder"]["adapter"].startswith("reasoning")
    finally:
        server.terminate()
        assert server.wait(60) == 0


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/ready").status_code == 200
    except httpx.TransportError:
        return False
