"""`truncation: "auto"` of the Responses API: the oldest items of a conversation that is too long are left out."""

from typing import Any

import pytest

from app.api.responses import truncation
from app.api.responses.conversion import converted

pytestmark = pytest.mark.anyio

CONTEXT = 2048  # words, of the scripted engine
LONG = " ".join(["word"] * 400)
IMAGE = {"type": "input_image", "image_url": "http://127.0.0.1:9/x.png"}


def said(number: int, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": f"{role} {number} {LONG}"}


async def ask(served, items: list[dict[str, Any]], status: int = 200, **fields: object) -> dict[str, Any]:
    body = {"model": "scripted", "input": items, "truncation": "auto", "ponder": {"strategy": "direct"}, **fields}
    reply = await served.client.post("/v1/responses", json=body)
    assert reply.status_code == status, reply.text
    return reply.json()


async def test_the_oldest_items_are_left_out(serve) -> None:
    """As few as make room for the answer; the note says how many. The instructions stay, and the whole conversation is kept."""
    items = [said(0, "developer"), *(said(number) for number in range(1, 20))]
    async with serve() as served:
        response = await ask(served, items, instructions="Be brief.", max_output_tokens=300)
        prompt = served.engine.branches[0].prompt
        kept = (await served.client.get(f"/v1/responses/{response['id']}/input_items", params={"limit": 100})).json()["data"]
    assert prompt.text.startswith("system: Be brief.")
    assert [name in prompt.text for name in ("developer 0", "user 1 ", "user 16 ", "user 17 ", "user 19 ")] == [
        True, False, False, True, True
    ]  # fmt: skip
    assert len(prompt.token_ids) + 300 <= CONTEXT
    assert response["ponder"]["notes"] == ["truncation: 16 of the oldest input items were left out, so that the prompt fits"]
    assert (response["truncation"], len(kept)) == ("auto", 20)


async def test_a_conversation_is_read_twice_at_most(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, and what is left of it: a long search for what fits would hold up everybody else."""
    read = []
    monkeypatch.setattr(truncation, "converted", lambda *given: read.append(given) or converted(*given))
    async with serve() as served:
        await ask(served, [said(number) for number in range(100)])
    assert len(read) == 2


async def test_a_conversation_that_fits_stays_whole(serve) -> None:
    """Also one that leaves less room than the answer may have."""
    async with serve() as served:
        response = await ask(served, [said(number) for number in range(5)], max_output_tokens=1000)
        text = served.engine.branches[0].prompt.text
    assert "user 0 " in text
    assert response["ponder"]["notes"] == []


async def test_a_call_and_its_output_stay_together(serve) -> None:
    """An output without its call would make no sense to the model, so it goes along; the call of the last output stays."""
    calls = [
        {"type": "function_call", "call_id": "old", "name": "look", "arguments": "{}"},
        said(1), said(2), said(3), said(4), said(5),
        {"type": "function_call_output", "call_id": "old", "output": "old output"},
        {"type": "function_call", "call_id": "new", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "new", "output": f"new output {LONG}"},
    ]  # fmt: skip
    async with serve() as served:
        await ask(served, calls)
        messages = served.engine.branches[0].prompt.request["messages"]
    assert [message.get("tool_call_id") for message in messages if message["role"] == "tool"] == ["new"]
    assert [call["id"] for message in messages for call in message.get("tool_calls", ())] == ["new"]


@pytest.mark.parametrize("fields", [{"truncation": "disabled"}, {"truncation": None}, {}])
async def test_what_cannot_fit_is_refused(serve, fields: dict[str, Any]) -> None:
    """With `disabled`, the default, and where the last item alone is too long."""
    items = [said(number) for number in range(9)] if fields else [{"role": "user", "content": " ".join([LONG] * 6)}]
    async with serve() as served:
        error = (await ask(served, items, 400, **fields))["error"]
    assert error["param"] == "input"


async def test_a_conversation_with_too_many_characters_is_cut_too(serve) -> None:
    async with serve(max_prompt_chars=5000) as served:
        response = await ask(served, [said(number) for number in range(4)])
    assert response["ponder"]["notes"] == ["truncation: 2 of the oldest input items were left out, so that the prompt fits"]


async def test_other_values_and_images_are_refused(serve) -> None:
    async with serve() as served:
        assert (await ask(served, [said(1)], 400, truncation="middle"))["error"]["param"] == "truncation"
        error = (await ask(served, [{"role": "user", "content": [IMAGE]}, said(1)], 400))["error"]
    assert "cannot read image" in error["message"]


@pytest.mark.parametrize(
    ("fields", "variables"),
    [
        ({}, {}),
        ({"reasoning": {"effort": "none"}}, {"enable_thinking": False, "reasoning_effort": "none"}),
        ({"reasoning": {"effort": "high"}}, {"enable_thinking": True, "reasoning_effort": "high"}),
        (
            {"reasoning": {"effort": "high"}, "chat_template_kwargs": {"enable_thinking": False}},
            {"enable_thinking": False, "reasoning_effort": "high"},
        ),
    ],
)
async def test_the_prompt_is_counted_with_its_effort(
    serve, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], variables: dict[str, Any]
) -> None:
    """A template may write another prompt for another effort, and for a model that is not to think."""
    counted = []
    async with serve() as served:
        tokenize = served.engine.tokenize
        monkeypatch.setattr(served.engine, "tokenize", lambda body, **given: counted.append(body) or tokenize(body, **given))
        await ask(served, [said(1)], **fields)
    assert [body["chat_template_kwargs"] for body in counted] == [variables]
