"""What the README shows is run as it stands, against the real server."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.vllm

README = Path(__file__).parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    """The code blocks of a language (none for shell)."""
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)


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
