"""What becomes of the fields of OpenAI's, Anthropic's and vLLM's requests."""

import typing
from typing import Any

import pytest
from anthropic.types import message_count_tokens_params, message_create_params
from anthropic.types.beta import message_create_params as beta_create_params
from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import response_create_params
from pydantic import ValidationError

from app.api import fields
from app.api.anthropic.schemas import MessagesRequest
from app.api.field_table import Use
from app.api.messages import FunctionCall
from app.api.responses.schemas import ResponsesRequest
from app.api.schemas import ChatRequest, CompletionRequest

USER = [{"role": "user", "content": "What is 1 + 1?"}]
OK = {"model": "scripted", "messages": USER}
FUNCTION = {"name": "look", "parameters": {"type": "object", "properties": {}}}
TOOL = {"type": "function", "function": FUNCTION}
NAMED = {"type": "function", "function": {"name": "look"}}
ANSWERED = {
    "content": "2",
    "refusal": None,
    "role": "assistant",
    "annotations": [],
    "audio": None,
    "function_call": None,
    "tool_calls": None,
}

ACCEPTED: list[dict[str, Any]] = [
    {"store": True, "metadata": {"a": "b"}, "user": "me", "safety_identifier": "me", "service_tier": "auto"},
    {"prompt_cache_key": "k", "prompt_cache_retention": "24h", "verbosity": "low", "modalities": ["text"]},
    {"prediction": {"type": "content", "content": "2"}, "web_search_options": {}},
    {"n": None, "stream": None, "stop": None, "ponder": None, "mm_processor_kwargs": None, "documents": None},
    {"tools": [], "tool_choice": "auto"},
    {"tool_choice": "none"},
    {"stream": False, "stream_options": {"include_usage": True, "include_obfuscation": False}},
    {"functions": [FUNCTION], "function_call": "auto"},
    {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}}},
    {"use_beam_search": False, "length_penalty": 1.0, "priority": 1, "cache_salt": "salt", "kv_transfer_params": {}},
    {"truncate_prompt_tokens": 4, "spaces_between_special_tokens": True, "add_special_tokens": False},
    {"chat_template_kwargs": {"enable_thinking": False}, "include_reasoning": True, "reasoning_effort": "max"},
    {"stop": ["a", "b", "c", "d", "e", "f"], "temperature": 2.5},
    {"messages": [*USER, ANSWERED, *USER]},
    {"messages": [*USER, {"role": "assistant", "content": "2", "reasoning_content": "1 and 1"}, *USER]},
    {"messages": [*USER, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}], "id": "msg_1"}, *USER]},
    {"messages": [{"role": "user", "content": [{"type": "input_text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]}]},
    {
        "messages": [
            *USER,
            {"role": "assistant", "tool_calls": [{"index": 0, "id": "1", "function": {"name": "look", "arguments": ""}}]},
            {"role": "tool", "tool_call_id": "1", "content": None},
        ]
    },
    {
        "messages": [
            *USER,
            {"role": "assistant", "function_call": {"name": "look", "arguments": "{}"}},
            {"role": "function", "name": "look", "content": "2"},
        ]
    },
]


@pytest.mark.anyio
@pytest.mark.parametrize("body", ACCEPTED, ids=", ".join)
async def test_what_clients_send_is_served(serve, body: dict[str, Any]) -> None:
    """Nothing of it is named as unknown."""
    async with serve() as served:
        response = await served.client.post("/v1/chat/completions", json={**OK, **body})
    assert response.status_code == 200, response.text
    assert response.json()["ponder"]["notes"] == []
    assert "x-ponder-ignored-fields" not in response.headers


@pytest.mark.anyio
async def test_a_field_that_nobody_knows_is_ignored_and_named(serve) -> None:
    """At every depth, in a note and in a header; a name that could not stand in a header is only in the note."""
    strange = {"colour": 1, "a\nb": 2, "messages": [{**USER[0], "mood": "good"}]}
    async with serve() as served:
        response = await served.client.post("/v1/chat/completions", json={**OK, **strange})
    assert response.json()["ponder"]["notes"] == ["ignored fields: colour, a\nb, messages.0.mood"]
    assert response.headers["x-ponder-ignored-fields"] == "colour, messages.0.mood"


@pytest.mark.anyio
async def test_strict_fields_refuse_it(serve) -> None:
    async with serve(strict_fields=True) as served:
        response = await served.client.post("/v1/chat/completions", json={**OK, "colour": 1})
        known = await served.client.post("/v1/chat/completions", json={**OK, "store": True})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "colour"
    assert known.status_code == 200


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("field", "value"),
    [("modalities", ["audio"]), ("chat_template", "{{ 1 }}"), ("vllm_xargs", {"a": 1}), ("mm_processor_kwargs", {"a": 1})],
)
async def test_a_refused_field_says_why(serve, field: str, value: object) -> None:
    async with serve() as served:
        response = await served.client.post("/v1/chat/completions", json={**OK, field: value})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, field)
    assert fields.CHAT[field].note in error["message"]


@pytest.mark.anyio
async def test_a_model_without_eyes_says_so(serve) -> None:
    """The part's type is known, so the model's ability decides; its URL is never opened."""
    image = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/x.png"}}
    async with serve() as served:
        response = await served.client.post(
            "/v1/chat/completions", json={**OK, "messages": [{"role": "user", "content": [image]}]}
        )
    assert response.status_code == 400
    assert "cannot read image" in response.json()["error"]["message"]


BODIES = {
    "chat": (ChatRequest, fields.CHAT, chat_create_params.CompletionCreateParamsBase),
    "completions": (CompletionRequest, fields.COMPLETION, completion_create_params.CompletionCreateParamsBase),
    "responses": (ResponsesRequest, fields.RESPONSES, response_create_params.ResponseCreateParamsBase),
    "messages": (MessagesRequest, fields.MESSAGES, message_create_params.MessageCreateParamsBase),
}


@pytest.mark.parametrize("api", BODIES)
def test_the_table_and_the_body_agree(api: str) -> None:
    """A field is honoured exactly if the body has it, or rewrites it from a former form."""
    body, table, _ = BODIES[api]
    former = {"guided_json", "guided_regex", "guided_choice", "guided_grammar"}
    assert {name for name, field in table.items() if field.use is Use.HONOURED} - former == set(body.model_fields)


@pytest.mark.parametrize("api", BODIES)
def test_every_field_of_the_official_client_is_in_the_table(api: str) -> None:
    _, table, params = BODIES[api]
    assert set(typing.get_type_hints(params)) | {"stream"} <= set(table)


@pytest.mark.parametrize(
    "params",
    [message_count_tokens_params.MessageCountTokensParams, beta_create_params.MessageCreateParamsBase],
    ids=["count_tokens", "beta"],
)
def test_every_field_of_anthropics_other_requests_is_in_the_table(params: type) -> None:
    assert set(typing.get_type_hints(params)) <= set(fields.MESSAGES)


@pytest.mark.vllm
@pytest.mark.parametrize("api", BODIES)
def test_every_field_of_vllm_is_in_the_table(api: str) -> None:
    """An upgrade of vLLM shows here what is new."""
    from vllm.entrypoints.anthropic.protocol import AnthropicMessagesRequest
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest as TextRequest
    from vllm.entrypoints.openai.responses.protocol import ResponsesRequest as VllmResponsesRequest

    request = {
        "chat": ChatCompletionRequest,
        "completions": TextRequest,
        "responses": VllmResponsesRequest,
        "messages": AnthropicMessagesRequest,
    }[api]
    assert set(request.model_fields) <= set(BODIES[api][1])


@pytest.mark.anyio
async def test_best_of_is_the_likeliest_of_so_many(serve) -> None:
    """OpenAI's former field chooses the strategy, unless the request names one."""
    body = {"model": "scripted", "prompt": "1 + 1 =", "best_of": 3}
    async with serve() as served:
        ponder = (await served.client.post("/v1/completions", json=body)).json()["ponder"]
        named = await served.client.post("/v1/completions", json={**body, "ponder": {"strategy": "direct"}})
    assert (ponder["strategy"], len(ponder["candidates"])) == ("best_of_n", 3)
    assert ponder["plan"]["parameters"]["verifier"] == "likelihood"
    assert named.json()["ponder"]["strategy"] == "direct"


@pytest.mark.anyio
async def test_a_request_may_bring_its_id(serve) -> None:
    async with serve() as served:
        reply = (await served.client.post("/v1/chat/completions", json={**OK, "request_id": "mine-1"})).json()
    assert (reply["id"], reply["ponder"]["trace_id"]) == ("chatcmpl-mine-1", "mine-1")


@pytest.mark.anyio
async def test_every_candidate_continues_the_last_message(serve) -> None:
    """Votes and verifiers read the whole answer; the reply has only what is new."""
    messages = [*USER, {"role": "assistant", "content": "The answer is "}]
    body = {"model": "scripted", "messages": messages, "continue_final_message": True}
    rule = {"strategy": "best_of_n", "n": 2, "verifier": {"regex": "^The answer is 2$"}}
    async with serve(["2"]) as served:
        reply = (await served.client.post("/v1/chat/completions", json={**body, "ponder": rule})).json()
    assert reply["choices"][0]["message"]["content"] == "2"
    assert reply["ponder"]["candidates"][0]["score"] == 1


@pytest.mark.anyio
async def test_reasoning_is_left_out_on_request(serve) -> None:
    body = {**OK, "stream": True, "ponder": {"strategy": "self_consistency", "n": 3}}
    async with serve(["#### 2"]) as served:
        shown = (await served.client.post("/v1/chat/completions", json=body)).text
        hidden = (await served.client.post("/v1/chat/completions", json={**body, "include_reasoning": False})).text
    assert '"reasoning":' in shown
    assert '"reasoning":' not in hidden


@pytest.mark.parametrize(
    ("sent", "rendered"),
    [
        ("", "{}"),
        ('{"a": 1}', '{"a": 1}'),
        ('{"a": "b', '{"a": "b"}'),
        ('{"a": [1, {"x": tr', '{"a": [1, {}]}'),
        ('{"ci', "{}"),
    ],
)
def test_the_arguments_of_a_call_that_was_cut_are_closed(sent: str, rendered: str) -> None:
    """Clients send a call back as it came; the conversation must go on."""
    assert FunctionCall(name="look", arguments=sent).arguments == rendered


@pytest.mark.parametrize("sent", ["[1", "no", '{"a": 1} x', '{"a" 1}', "1", '{"a":' * 5000])
def test_other_arguments_are_refused(sent: str) -> None:
    with pytest.raises(ValidationError, match="JSON object"):
        FunctionCall(name="look", arguments=sent)
