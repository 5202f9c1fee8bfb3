"""`/tokenize` and `/detokenize` on the embedded model's tokenizer."""

import httpx
import pytest

pytestmark = pytest.mark.vllm

TALK = [{"role": "user", "content": "Say hello."}]


def test_texts_and_conversations_become_tokens_and_back(server) -> None:
    """A conversation has the tokens that a chat request is charged for. An id that no token has is refused."""

    def post(path: str, **body: object) -> httpx.Response:
        return httpx.post(f"{server.url}{path}", json=body, timeout=60)

    text = post("/tokenize", prompt="Say hello.", return_token_strs=True).json()
    talk = post("/tokenize", messages=TALK).json()
    begun = post("/tokenize", messages=[*TALK, {"role": "assistant", "content": "Hel"}], continue_final_message=True).json()
    back = [post("/detokenize", tokens=one["tokens"]).json()["prompt"] for one in (text, talk, begun)]
    chat = {"model": "smollm2-135m", "messages": TALK, "max_tokens": 1, "ponder": {"strategy": "direct"}}
    usage = post("/v1/chat/completions", **chat).json()["usage"]
    unknown = post("/detokenize", tokens=[10**6])
    assert back[0] == "Say hello."
    assert len(text["token_strs"]) == text["count"] == len(text["tokens"])
    assert talk["count"] == usage["prompt_tokens"]
    assert back[1].endswith("<|im_start|>assistant\n")
    assert back[2].endswith("<|im_start|>assistant\nHel")
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "tokens.0")
