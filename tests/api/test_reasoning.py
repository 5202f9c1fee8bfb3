"""`include_reasoning: false` leaves out the reasoning, the ids of its tokens, and their log-probabilities."""

import json
from typing import Any

import pytest

from app.api.reasoning import without_reasoning
from strategies.core.values import Candidate, TokenLogprob

pytestmark = pytest.mark.anyio

SAID = "<think> 17 plus 25 </think> It is 42."
ANSWER = ["It", " is", " 42."]
HIDDEN = {"ponder": {"strategy": "direct"}, "include_reasoning": False}


class Thinking:
    """A parser of replies whose reasoning stands between two words, as vLLM's parsers read it."""

    def __init__(self) -> None:
        self._text = ""

    def parse(self, text: str, token_ids: tuple[int, ...], *, is_cut: bool = False) -> dict[str, Any]:
        reasoning, _, content = text.removeprefix("<think>").partition("</think>")
        return {"content": content.lstrip() or None, "reasoning": reasoning}

    def feed(self, text: str, token_ids: tuple[int, ...], *, is_last: bool, is_cut: bool = False) -> dict[str, Any] | None:
        before, self._text = self._text, self._text + text
        if "</think>" in before:
            return {"content": text}
        if "think>" in text:
            return None
        return {"reasoning": text}


async def post(served, path: str, **fields: object) -> Any:
    served.engine.parser = lambda _prompt: Thinking()
    reply = await served.client.post(path, json={"model": "scripted", **HIDDEN, **fields})
    assert reply.status_code == 200, reply.text
    return reply


def chunks(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


@pytest.mark.parametrize("is_hidden", [True, False])
async def test_a_whole_chat(serve, is_hidden: bool) -> None:
    fields = {"messages": [{"role": "user", "content": "Hi"}], "logprobs": True, "return_token_ids": True}
    async with serve([SAID]) as served:
        [choice] = (
            await post(served, "/v1/chat/completions", **fields, include_reasoning=not is_hidden)
        ).json()["choices"]  # fmt: skip
        text = served.engine.decode(choice["token_ids"])
    tokens = [entry["token"] for entry in choice["logprobs"]["content"]]
    assert choice["message"]["content"] == "It is 42."
    assert ("".join(tokens), text) == ((SAID, SAID) if not is_hidden else (" It is 42.",) * 2)
    assert ("reasoning" in choice["message"]) is not is_hidden


async def test_a_streamed_chat(serve) -> None:
    fields = {"messages": [{"role": "user", "content": "Hi"}], "logprobs": True, "return_token_ids": True, "stream": True}
    async with serve([SAID]) as served:
        read = chunks((await post(served, "/v1/chat/completions", **fields)).text)
        ids = [token for chunk in read for choice in chunk["choices"] for token in choice.get("token_ids", ())]
        text = served.engine.decode(ids)
    entries = [choice["logprobs"]["content"] for chunk in read for choice in chunk["choices"] if choice["logprobs"]]
    tokens = [entry["token"] for content in entries for entry in content]
    assert "".join(tokens) == text == " It is 42."


@pytest.mark.parametrize("stream", [True, False])
async def test_a_response(serve, stream: bool) -> None:
    fields = {"input": "Hi", "include": ["message.output_text.logprobs"], "stream": stream}
    async with serve([SAID]) as served:
        reply = await post(served, "/v1/responses", **fields)
    response = chunks(reply.text)[-1]["response"] if stream else reply.json()
    [item] = response["output"]
    assert item["content"][0]["text"].lstrip() == "It is 42."
    assert "plus" not in json.dumps(item)


async def test_tokens_without_texts_are_left_out(serve) -> None:
    """Without log-probabilities nobody knows which ids belong to the answer."""
    fields = {"messages": [{"role": "user", "content": "Hi"}], "return_token_ids": True}
    async with serve([SAID]) as served:
        [choice] = (await post(served, "/v1/chat/completions", **fields)).json()["choices"]
    assert choice["token_ids"] == []


def test_reasoning_that_is_not_found_takes_all_tokens_along() -> None:
    """A parser may have changed it."""
    logprobs = tuple(TokenLogprob(token, number, -0.1) for number, token in enumerate(["a", "b", "c"]))
    one = Candidate(0, "abc", (0, 1, 2), "stop", logprobs=logprobs)
    assert without_reasoning({"reasoning": "A", "content": "c"}, one) == ({"content": "c"}, (), ())
    assert without_reasoning({"reasoning": "a", "content": "c"}, one) == ({"content": "c"}, (1, 2), logprobs[1:])
    assert without_reasoning({"content": "abc"}, one) == ({"content": "abc"}, (0, 1, 2), logprobs)
    assert without_reasoning({"reasoning": "abc"}, one) == ({}, (), ())
