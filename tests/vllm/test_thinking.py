"""The shipped adapter that thinks, on real vLLM: what is thought is no answer, and every token is counted as what it is."""

import json
from typing import Any

import anthropic
import httpx
import openai
import pytest

from strategies.answers.reading import read_answer
from strategies.core.values import AnswerKind
from tests.vllm.test_searches import generated

pytestmark = [pytest.mark.vllm, pytest.mark.anyio]

QUESTION = (
    "State the final answer to the following arithmetic problem: 5 + 1 + 1 =\n"
    "Work it out in short steps, then give the final answer alone on the last line, after `####`."
)


async def ask(http: httpx.AsyncClient, model: str = "thinking", **fields: Any) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 200, "seed": 3, **fields}
    reply = await http.post("/v1/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_the_adapter_thinks_and_its_base_model_does_not(http: httpx.AsyncClient) -> None:
    """Unless the request switches thinking off."""
    direct = {"temperature": 0, "ponder": {"strategy": "direct"}}
    [thought] = (await ask(http, **direct))["choices"]
    assert thought["message"]["reasoning"].strip()
    assert thought["message"]["content"].strip()
    assert "think>" not in thought["message"]["reasoning"] + thought["message"]["content"]
    for fields in (
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"reasoning_effort": "none"},
        {"model": "smollm2-135m"},
    ):
        [plain] = (await ask(http, **{"max_tokens": 40, **direct, **fields}))["choices"]
        assert "reasoning" not in plain["message"]


async def test_every_api_tells_thinking_from_the_answer(http: httpx.AsyncClient, async_client: openai.AsyncOpenAI) -> None:
    """The same in all of them, whole and as a stream, through the official clients."""
    ponder = {"strategy": "direct"}
    message = (await ask(http, temperature=0, ponder=ponder))["choices"][0]["message"]
    expected = message["reasoning"].strip(), message["content"].strip()
    asked: dict[str, Any] = {"model": "thinking", "temperature": 0, "extra_body": {"ponder": ponder}}
    messages = [{"role": "user", "content": QUESTION}]

    async with await async_client.chat.completions.create(**asked, messages=messages, max_tokens=200, stream=True) as stream:
        deltas = [chunk.choices[0].delta async for chunk in stream if chunk.choices]
    parts = ["".join(getattr(delta, name, None) or "" for delta in deltas).strip() for name in ("reasoning", "content")]
    assert tuple(parts) == expected

    reply = await async_client.responses.create(**asked, input=QUESTION, max_output_tokens=200)
    [thought] = [item for item in reply.output if item.type == "reasoning"]
    assert (thought.content[0].text.strip(), reply.output_text.strip()) == expected

    asked["extra_body"]["temperature"] = asked.pop("temperature")
    asked["thinking"] = {"type": "enabled", "budget_tokens": 1024}
    async with anthropic.AsyncAnthropic(base_url=str(http.base_url), api_key="none") as claude:
        whole = await claude.messages.create(**asked, messages=messages, max_tokens=200)
        async with claude.messages.stream(**asked, messages=messages, max_tokens=200) as events:
            streamed = await events.get_final_message()
    for one in (whole, streamed):
        assert [block.type for block in one.content] == ["thinking", "text"]
        assert (one.content[0].thinking.strip(), one.content[1].text.strip()) == expected


async def test_votes_compare_what_follows_the_thinking(http: httpx.AsyncClient) -> None:
    """Compared as texts, answers differ from whole replies; a reply without an end of its thinking has no answer."""
    reply = await ask(http, temperature=1.0, ponder={"strategy": "self_consistency", "n": 6, "answer": "text"})
    nodes = (await http.get(f"/v1/traces/{reply['ponder']['trace_id']}")).json()["nodes"]
    assert len(nodes) > 1
    for node in nodes:
        _, has_ended, answer = node["text"].partition("</think>")
        is_whole = bool(has_ended) and node["finish_reason"] == "stop"
        assert node["answer"] == (read_answer(AnswerKind.TEXT, answer) if is_whole else None)


@pytest.mark.parametrize(
    "options",
    [{"strategy": "self_consistency", "n": 4}, {"strategy": "beam_search", "n": 4, "expand": 2, "separator": "\n"}],
)
async def test_tokens_by_kind_add_up_to_vllms_count(http: httpx.AsyncClient, options: dict[str, Any]) -> None:
    """A search over steps has steps of thought, and ends with an answer behind them."""
    before = await generated(http)
    reply = await ask(http, ponder={**options, "answer": "math"})
    usage, tokens = reply["usage"], reply["ponder"]["tokens"]
    details = usage["completion_tokens_details"]
    assert usage["completion_tokens"] == tokens["decoded"] == await generated(http) - before
    assert details["reasoning_tokens"] == details["thinking_tokens"] + details["other_branch_tokens"] < tokens["decoded"]
    assert 0 < details["thinking_tokens"] <= tokens["thinking"] < tokens["decoded"]
    assert reply["choices"][0]["message"]["content"].strip()


async def test_a_grammar_holds_behind_the_thinking(http: httpx.AsyncClient) -> None:
    """The thinking is free, and the answer is JSON."""
    schema = {
        "type": "object",
        "properties": {"sure": {"type": "boolean"}},
        "required": ["sure"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "sure", "schema": schema}}
    [choice] = (await ask(http, temperature=0, ponder={"strategy": "direct"}, response_format=form))["choices"]
    assert not choice["message"]["reasoning"].lstrip().startswith("{")
    assert list(json.loads(choice["message"]["content"])) == ["sure"]
