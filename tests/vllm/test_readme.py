"""What the README shows is run as it stands, against the real server."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.vllm

README = Path(__file__).parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    """The code blocks of a language (none for shell)."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    return [block for its_language, block in found if its_language == language]


def test_the_first_request_works(server) -> None:
    """The curl command, with this server's port."""
    [command] = [block for block in blocks("") if block.startswith("curl")]
    run = subprocess.run(["bash", "-c", command.replace("localhost:8000", server.url.removeprefix("http://"))],
                         capture_output=True, text=True, timeout=300)  # fmt: skip
    reply = json.loads(run.stdout)
    assert reply["ponder"]["strategy"] == "self_consistency"
    [shown] = blocks("json")
    assert set(re.findall(r'^  "(\w+)":', shown, re.MULTILINE)) <= set(reply["ponder"])


def test_the_example_in_python_works(server) -> None:
    """The OpenAI client, with this server's address."""
    [code] = blocks("python")
    code = code.replace("http://localhost:8000", server.url)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.split()[-1]) > 0


def test_the_adapter_commands_work(server) -> None:
    """Push, list, roll back, remove, and the same by curl, with an adapter of ours in the folder that is named."""
    adapter = Path(__file__).parents[1] / "data" / "adapters" / "red"
    environment = {**os.environ, "PONDER_URL": server.url, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def bash(script: str) -> str:
        run = subprocess.run(
            ["bash", "-ec", script], capture_output=True, text=True, timeout=300, cwd=adapter, env=environment
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        return run.stdout

    [script] = [block for block in blocks("") if block.startswith("ponder adapters")]
    version = json.loads(bash(f"ponder adapters push sums {adapter} --json"))["version"]
    script = script.replace("localhost:8000", server.url).replace("./my-peft-folder", str(adapter))
    script = script.replace('"messages"', '"max_tokens": 16, "messages"')  # it says its word for ever
    said = bash(script.replace("3f9a2c41", version[:8]))
    assert f"sums:{version[:8]} is served as sums" in said
    assert "sums is deleted" in said
    assert '"content":" red red' in said
    bash("ponder adapters remove sums")


def test_asking_in_the_terminal_works(server) -> None:
    """A search's answer, and the plan of a dry run."""
    environment = {**os.environ, "PONDER_URL": server.url, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    [script] = [block for block in blocks("") if block.startswith("ponder ask")]
    run = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, timeout=300, env=environment)
    assert run.returncode == 0, run.stderr
    assert "mcts" in run.stderr
    assert "self_consistency" in run.stdout
