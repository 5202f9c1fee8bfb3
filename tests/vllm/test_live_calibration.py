"""Live calibration on real vLLM: questions of the traffic are asked again, kept as a pool, and read by `ponder calibrate`."""

import json
import re
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from app.lab.calibration.pool import read_pool
from app.routing.pool_file import POOL
from tests.server import BIN, ENVIRONMENT

pytestmark = pytest.mark.vllm

SHARE = 0.5


def metric(page: str, name: str) -> float:
    return sum(float(value) for value in re.findall(rf"^ponder_{name}{{[^}}]*}} (\S+)", page, re.MULTILINE))


def test_questions_of_the_traffic_become_a_pool(start_server, tmp_path: Path) -> None:
    """Within the budget, and with the answers of the adapter that was asked."""
    kept = ("--live-calibration-share", str(SHARE), "--live-calibration-dir", str(tmp_path / "live"))
    server = start_server(
        "--kv-cache-gib", "1", "--policy-dir", str(tmp_path / "policies"), "--default-max-tokens", "96", *kept
    )
    done, turn, deadline = 0.0, 0, time.monotonic() + 240
    with httpx.Client(base_url=server.url, timeout=120) as client:
        while not done and time.monotonic() < deadline:
            turn += 1
            body = {
                "model": "reasoning@self_consistency",
                "messages": [{"role": "user", "content": f"Calculate {turn} + {2 * turn + 7}."}],
                "ponder": {"n": 16},
            }
            reply = client.post("/v1/chat/completions", json=body)
            assert reply.status_code == 200, reply.text
            time.sleep(1)
            page = client.get("/metrics").text
            done = sum(float(one) for one in re.findall(r'questions_total{.*outcome="kept"} (\S+)', page))
            assert metric(page, "live_calibration_flops_total") <= SHARE * metric(page, "flops_total")
        version = client.get("/v1/adapters/reasoning").json()["current"]
    assert server.stop() == 0
    [path] = (tmp_path / "live").glob(f"reasoning-*/{POOL}")
    settings, entries = read_pool(path)
    assert settings.adapter is not None
    assert settings.adapter.startswith(version[:8])
    assert entries
    for one in entries:
        assert len(one.samples) == 7
        assert all(len(each.logprobs) == len(each.token_ids) > 0 for each in one.answers)
        assert len(one.greedy.margins) == min(len(one.greedy.token_ids), 32)
        assert one.question in json.dumps([f"Calculate {n} + {2 * n + 7}." for n in range(1, turn + 1)])
    assert not re.search(r"Calculate \d", server.log.read_text())
    command = [BIN / "ponder", "calibrate", "--live", path.parent, "--out", tmp_path / "out"]
    result = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert result.returncode == 1
    assert f"has {len(entries)} questions, and 20 are needed" in " ".join(result.stderr.split())
