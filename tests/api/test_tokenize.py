"""`/tokenize` and `/detokenize`, as vLLM's server has them."""

from typing import Any

import pytest

from app.api import fields
from app.api.field_table import Use
from app.api.tokenize import DetokenizeRequest, TokenizeRequest

TALK = [{"role": "user", "content": "Say hello."}]


@pytest.mark.anyio
async def test_a_text_becomes_tokens_and_back(serve) -> None:
    """The model's name may be left out. Texts of the tokens come only where they are asked for."""
    async with serve() as served:
        reply = (await served.client.post("/tokenize", json={"prompt": "Once upon a time"})).json()
        named = {"model": "scripted@best_of_n", "prompt": "Once upon", "return_token_strs": True}
        shown = (await served.client.post("/tokenize", json=named)).json()
        back = (await served.client.post("/detokenize", json={"model": "scripted", "tokens": reply["tokens"]})).json()
    assert reply == {"count": 4, "max_model_len": 2048, "tokens": reply["tokens"], "token_strs": None}
    assert shown["token_strs"] == ["Once", " upon"]
    assert back == {"prompt": "Once upon a time"}


@pytest.mark.anyio
async def test_a_conversation_is_rendered_first(serve) -> None:
    """The tokens are those that a chat request would send to the model."""
    async with serve() as served:
        reply = (await served.client.post("/tokenize", json={"messages": TALK})).json()
        closed = (await served.client.post("/tokenize", json={"messages": TALK, "add_generation_prompt": False})).json()
        text = (await served.client.post("/detokenize", json={"tokens": reply["tokens"]})).json()["prompt"]
        usage = (await served.chat("Say hello.")).json()["usage"]
    assert text == "user: Say hello.\nassistant:"
    assert (reply["count"], closed["count"]) == (usage["prompt_tokens"], usage["prompt_tokens"] - 1)


@pytest.mark.anyio
async def test_a_prompt_longer_than_the_context_is_counted(serve) -> None:
    """That is what clients ask for: whether it has room."""
    async with serve() as served:
        reply = (await served.client.post("/tokenize", json={"prompt": "word " * 3000})).json()
    assert reply["count"] > reply["max_model_len"]


WRONG: list[tuple[str, dict[str, Any], int, str | None]] = [
    ("tokenize", {}, 400, None),
    ("tokenize", {"prompt": "a", "messages": TALK}, 400, None),
    ("tokenize", {"prompt": 5}, 400, "prompt"),
    ("tokenize", {"prompt": "x" * 1001}, 400, "prompt"),
    ("tokenize", {"messages": [{"role": "user", "content": "x" * 1001}]}, 400, "messages"),
    ("tokenize", {"messages": [{"role": "king", "content": "x"}]}, 400, "messages.0.role"),
    ("tokenize", {"messages": TALK, "chat_template": "{{ 1 }}"}, 400, "chat_template"),
    ("tokenize", {"messages": TALK, "add_generation_prompt": True, "continue_final_message": True}, 400, None),
    ("tokenize", {"model": "gpt-9", "prompt": "a"}, 404, None),
    ("tokenize", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/"}}]}]},
     400, "messages"),
    ("detokenize", {"tokens": "a"}, 400, "tokens"),
    ("detokenize", {"tokens": [1, -1]}, 400, "tokens.1"),
    ("detokenize", {"tokens": [10**30]}, 400, "tokens.0"),
    ("detokenize", {"tokens": [999]}, 400, "tokens"),
    ("detokenize", {"model": "gpt-9", "tokens": []}, 404, None),
]  # fmt: skip


@pytest.mark.anyio
@pytest.mark.parametrize(("path", "body", "status", "parameter"), WRONG)
async def test_a_wrong_request_is_refused_by_name(serve, path: str, body: dict[str, Any], status: int, parameter) -> None:
    async with serve(max_prompt_chars=1000) as served:
        response = await served.client.post(f"/{path}", json=body)
    error = response.json()["error"]
    assert response.status_code == status, error
    assert parameter is None or error["param"] == parameter


@pytest.mark.anyio
async def test_keys_are_asked_for(serve) -> None:
    async with serve(api_keys="alice") as served:
        assert (await served.client.post("/tokenize", json={"prompt": "a"})).status_code == 401
        assert (await served.client.post("/detokenize", json={"tokens": []})).status_code == 401


def test_the_table_and_the_body_agree() -> None:
    honoured = {name for name, field in fields.TOKENIZE.items() if field.use is Use.HONOURED}
    assert honoured == set(TokenizeRequest.model_fields)


@pytest.mark.vllm
def test_every_field_of_vllm_is_in_the_table() -> None:
    from vllm.entrypoints.serve.tokenize import protocol

    theirs = protocol.TokenizeChatRequest.model_fields.keys() | protocol.TokenizeCompletionRequest.model_fields.keys()
    assert theirs <= set(fields.TOKENIZE)
    assert protocol.DetokenizeRequest.model_fields.keys() == DetokenizeRequest.model_fields.keys()
