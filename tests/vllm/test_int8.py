"""Eight-bit weights on real vLLM: converted on the way, and still the same model."""

import subprocess

import httpx
import pytest

from app.settings import Settings
from tests.server import BIN


@pytest.mark.vllm
def test_the_embedded_model_in_eight_bits_says_what_it_says_in_sixteen(server, start_server) -> None:
    """Both continue a pattern with the same word, which has 2.6 nats of advance on every other word.

    Rounding differs between processors, so a question with two answers of nearly equal probability would test the processor.
    """
    small = start_server("--quantization", "int8", "--adapter-slots", "0", "--kv-cache-gib", "1")
    body = {
        "model": "smollm2-135m",
        "prompt": "The capital of Italy is Rome. The capital of France is",
        "max_tokens": 2,
        "temperature": 0,
    }
    texts = []
    for one in (server, small):
        reply = httpx.post(f"{one.url}/v1/completions", json=body, timeout=300)
        assert reply.status_code == 200, reply.text
        texts.append(reply.json()["choices"][0]["text"])
    assert texts == [" Paris.", " Paris."]
    assert list(Settings().cache_dir.expanduser().glob("smollm2-135m-*-int8-*"))


@pytest.mark.vllm
def test_what_cannot_be_converted_ends_the_start_with_a_line() -> None:
    command = [BIN / "ponder", "serve", "--quantization", "int8", "--model", "someone/some-model", "--adapter-slots", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ponder: int8 is made of a local folder")
