"""Log-probabilities of prompts on real vLLM, compared with those that transformers computes from the same weights, in float32."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.settings import Settings
from tests.server import MODEL, ForkedServer

pytestmark = pytest.mark.vllm

TEXTS = [
    "The capital of Italy is Rome. The capital of France is Paris.",
    "def add(a, b):\n    return a + b",
    "Grüße: 你好 🙂!",
    "One",
    " ".join(str(number) for number in range(400)),  # longer than a slice of the prompt (app/engine/worker/prompt_slices.py)
]
TOLERANCE = 1e-2


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server that computes in float32."""
    arguments = ("--dtype", "float32", "--adapter-slots", "0", "--kv-cache-gib", "1")
    server = ForkedServer(*arguments, log=tmp_path_factory.mktemp("float32") / "log")
    try:
        server.wait()
        with httpx.Client(base_url=server.url, timeout=300) as client:
            yield client
    finally:
        server.stop()


@pytest.fixture(scope="module")
def expected() -> list[tuple[list[int], list[float]]]:
    """For each text its token ids, and their log-probabilities from the second on, by transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    [folder] = (path for path in Path(Settings().cache_dir).expanduser().glob("smollm2-135m-*") if "int8" not in path.name)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    found = []
    for text in TEXTS:
        ids = tokenizer(text).input_ids
        with torch.inference_mode():
            logprobs = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        found.append((ids, [logprobs[place, token].item() for place, token in enumerate(ids[1:])]))
    return found


def complete(client: httpx.Client, **fields: object) -> list[dict[str, Any]]:
    """The choices of a reply."""
    reply = client.post("/v1/completions", json={"model": MODEL, "temperature": 0, **fields})
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"]


@pytest.mark.parametrize("max_tokens", [0, 1])
def test_echoed_log_probabilities_are_those_of_transformers(exact, expected, max_tokens: int) -> None:
    """Of texts and of token ids, as lm-eval asks for them; the tokens' texts are the prompt's, whatever parts of characters they are."""
    asked = {"echo": True, "logprobs": 1, "max_tokens": max_tokens}
    by_text = complete(exact, prompt=TEXTS, **asked)
    by_ids = complete(exact, prompt=[ids for ids, _ in expected], **asked)
    for text, (ids, wanted), *choices in zip(TEXTS, expected, by_text, by_ids, strict=True):
        for choice in choices:
            found = choice["logprobs"]
            values = found["token_logprobs"][: len(ids)]
            assert (values[0], len(found["tokens"])) == (None, len(ids) + max_tokens)
            assert values[1:] == pytest.approx(wanted, abs=TOLERANCE)
            assert "".join(found["tokens"][: len(ids)]) == text
            assert choice["text"].startswith(text)
            assert all(token in top for token, top in zip(found["tokens"][1:], found["top_logprobs"][1:], strict=True))


def test_prompt_logprobs_name_ids_ranks_and_texts(exact, expected) -> None:
    """With a search too; the rank of a token is 1 exactly if no other is more probable."""
    ids, wanted = expected[0]
    [choice] = complete(exact, prompt=ids, prompt_logprobs=2, max_tokens=4, ponder={"strategy": "beam_search"}, temperature=1)
    first, *rest = choice["prompt_logprobs"]
    assert first is None
    for token, value, position in zip(ids[1:], wanted, rest, strict=True):
        own = position[str(token)]
        assert own["logprob"] == pytest.approx(value, abs=TOLERANCE)
        assert (own["rank"] == 1) == (own["logprob"] == max(one["logprob"] for one in position.values()))
        assert len(position) in (2, 3)


def test_the_bytes_of_a_chat_are_those_of_its_text(exact) -> None:
    """Tokens that are parts of characters included."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Hi"}],
        "structured_outputs": {"regex": "🙂你🐢"},
        "logprobs": True,
        "top_logprobs": 2,
    }
    [choice] = exact.post("/v1/chat/completions", json=body).json()["choices"]
    entries = choice["logprobs"]["content"]
    assert choice["message"]["content"] == "🙂你🐢"
    assert len(entries) > 3
    assert bytes(byte for entry in entries for byte in entry["bytes"]).decode().startswith("🙂你🐢")


def test_a_prompt_that_was_cut_is_echoed_as_it_was_read(exact) -> None:
    [choice] = complete(exact, prompt=TEXTS[0], truncate_prompt_tokens=3, echo=True, logprobs=0, max_tokens=0)
    assert len(choice["logprobs"]["tokens"]) == 3
    assert "".join(choice["logprobs"]["tokens"]) == choice["text"] == " is Paris."


def test_an_unknown_token_id_is_refused(exact) -> None:
    reply = exact.post("/v1/completions", json={"model": MODEL, "prompt": [49_152_000], "echo": True, "max_tokens": 0})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "prompt")
