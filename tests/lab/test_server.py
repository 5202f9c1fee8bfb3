"""Servers that an offline command starts have slots for their adapters, and end with the command."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.lab.server import WITH_ITS_PARENT, free_port, preloaded

PARENT = """
import sys, time
from pathlib import Path
from app.lab.server import running

port = sys.argv[1]
server = [sys.executable, "-m", "http.server", port, "--bind", "127.0.0.1"]
with running(server, f"http://127.0.0.1:{port}/", Path(sys.argv[2]), {}) as pid:
    print(pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(not WITH_ITS_PARENT, reason="needs util-linux")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_ends_with_whoever_started_it(sent, tmp_path):
    """Also when its parent is killed: otherwise it would keep its gigabytes of memory."""
    arguments = [sys.executable, "-c", PARENT, str(free_port()), str(tmp_path / "log")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        server = int(parent.stdout.readline())
        parent.send_signal(sent)
    deadline = time.monotonic() + 10
    while is_there(server) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_there(server)


def is_there(process: int) -> bool:
    """Return whether the process runs. A zombie, which nobody may have waited for, does not count."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("ranks", "most"), [([], "16"), ([4, 8], "16"), ([17, 4], "32"), ([64], "64")])
def test_every_adapter_fits_its_slot(ranks, most, tmp_path):
    adapters = {}
    for number, rank in enumerate(ranks):
        folder = adapters[f"a{number}"] = tmp_path / str(number)
        folder.mkdir()
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "target_modules": ["q_proj"]}
        (folder / "adapter_config.json").write_text(json.dumps(config))
    with preloaded(adapters) as options:
        given = dict(zip(options[::2], options[1::2], strict=True))
        assert given["--max-adapter-rank"] == most
        assert given["--adapter-slots"] == str(len(ranks) + 1 if ranks else 0)
        assert sorted(path.name for path in Path(given["--adapter-preload-dir"]).iterdir()) == sorted(adapters)
