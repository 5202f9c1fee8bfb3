"""Tools with the embedded model: how calls are rendered, and how they are read, whole and from a stream."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest

from app.api.schemas import ChatRequest
from app.engine.base import Prompt
from app.engine.vllm.options import EngineOptions
from app.engine.weights.conversions import ModelUnavailable

pytestmark = [pytest.mark.vllm, pytest.mark.anyio, pytest.mark.filterwarnings("ignore:max_tokens is deprecated")]

MODEL = "smollm2-135m"
ASKED = {"role": "user", "content": "Weather?"}
SCHEMA = {"type": "object", "properties": {"unit": {"enum": ["c", "f"]}}, "required": ["unit"], "additionalProperties": False}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
CLOCK = {"type": "function", "function": {"name": "clock"}}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "a \\"}b", "days": [1, {"x": 2}]}}\n</tool_call>'
TURNS = "<|im_start|>user\nWeather?<|im_end|>\n"

Render = Callable[..., Awaitable[Prompt]]


@pytest.fixture(scope="module")
def new_rendering(llm):
    """`new_rendering(some_option=…)` returns what renders prompts and reads replies, without an engine."""
    from app.engine.vllm.rendering import Rendering

    return lambda **options: Rendering(EngineOptions(model=llm.model_config.model, name=MODEL, **options), lambda: llm)


@pytest.fixture(scope="module")
def rendering(new_rendering):
    """The same with the options of the server."""
    return new_rendering()


@pytest.fixture
def render(rendering) -> Render:
    """`await render(messages, some_field=…)` renders a body as the server does."""
    return lambda messages, **fields: rendered(rendering, messages, **fields)


async def rendered(rendering, messages: list[dict[str, Any]], **fields: Any) -> Prompt:
    body = ChatRequest.model_validate({"model": MODEL, "messages": messages, **fields})
    return await rendering.chat(body.for_engine(), None)


def called(*cities: str, **fields: Any) -> dict[str, Any]:
    """An assistant's message that calls a tool for each city."""
    calls = [{"id": city, "function": {"name": "weather", "arguments": json.dumps({"city": city})}} for city in cities]
    return {"role": "assistant", "tool_calls": calls, **fields}


def rendered_call(city: str) -> str:
    return f'\n<tool_call>\n{{"name": "weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>'


async def test_calls_and_their_results_are_rendered(render: Render) -> None:
    """Several calls of one message, content beside a call, a result in parts, and one that is null."""
    results = [
        {
            "role": "tool",
            "tool_call_id": "Rome",
            "content": [{"type": "text", "text": "Sun"}, {"type": "text", "text": "Wind"}],
        },
        {"role": "tool", "tool_call_id": "Oslo", "content": None},
    ]
    several = await render([ASKED, called("Rome", "Oslo", content=None), *results])
    responses = "".join(
        f"<|im_start|>user\n<tool_response>\n{text}\n</tool_response><|im_end|>\n" for text in ("Sun\nWind", "")
    )
    calls = rendered_call("Rome") + rendered_call("Oslo")
    assert several.text.endswith(f"{TURNS}<|im_start|>assistant{calls}<|im_end|>\n{responses}<|im_start|>assistant\n")
    beside = await render([ASKED, called("Rome", content=[{"type": "text", "text": "Let me see."}]), results[1]])
    assert f"<|im_start|>assistant\nLet me see.{rendered_call('Rome')}<|im_end|>" in beside.text


async def test_the_former_form_is_rendered_as_tools(render: Render) -> None:
    """A `function_call` and a message of the role `function`."""
    call = {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    former = await render([ASKED, call, {"role": "function", "name": "weather", "content": "Sun"}])
    new = await render([ASKED, called("Rome"), {"role": "tool", "tool_call_id": "Rome", "content": "Sun"}])
    assert former.text == new.text


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
async def test_a_grammar_holds_a_call_that_must_be_made(render: Render, choice: Any) -> None:
    """With the tool's schema, without `strict`; the prompt is the same as for a call that the model may make."""
    forced = await render([ASKED], tools=[WEATHER, CLOCK], tool_choice=choice)
    free = await render([ASKED], tools=[WEATHER, CLOCK])
    tags = json.loads(forced.sampling.structured_outputs.structural_tag)["format"]["tags"]
    schemas = {tag["begin"].partition('"name": "')[2].partition('"')[0]: tag["content"]["json_schema"] for tag in tags}
    assert schemas["weather"] == SCHEMA
    assert schemas.get("clock", {"type": "object", "properties": {}}) == {"type": "object", "properties": {}}
    assert forced.is_constrained
    assert not free.is_constrained
    assert forced.text == free.text


XML = "<tool_call>\n<function=weather>\n<parameter=unit>\nc\n</parameter>\n</function>\n</tool_call>"
TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}{% if tools %}Call as "


@pytest.mark.parametrize(
    ("form", "text"),
    [(XML, XML), ("[TOOL_CALLS]", CALL)],
    ids=["a form of its own", "a form whose tokens the vocabulary lacks"],
)
async def test_the_chat_template_tells_how_calls_are_read(new_rendering, form: str, text: str) -> None:
    """A parser that does not fit the tokenizer stops no start: the one that fits most models is taken."""
    rendering = new_rendering(chat_template=TEMPLATE + form + "{% endif %}")
    [call] = rendering.parser(await rendered(rendering, [ASKED], tools=[WEATHER])).parse(text, (1,))["tool_calls"]
    assert call["function"]["name"] == "weather"
    forced = await rendered(rendering, [ASKED], tools=[WEATHER], tool_choice="required")
    assert ("<function=" in forced.sampling.structured_outputs.structural_tag) == (text == XML)


async def test_the_operator_overrides_the_parser(new_rendering) -> None:
    """Whatever the chat template says. A call that must be made may have another form than one that the model chooses to make."""
    rendering = new_rendering(tool_call_parser="pythonic")
    free = rendering.parser(await rendered(rendering, [ASKED], tools=[WEATHER])).parse("[weather(unit='c')]", (1,))
    prompt = await rendered(rendering, [ASKED], tools=[WEATHER], tool_choice="required")
    assert prompt.is_constrained
    forced = rendering.parser(prompt).parse('[{"name": "weather", "parameters": {"unit": "c"}}]', (1,))
    assert [parsed(reply["tool_calls"][0]["function"]["arguments"]) for reply in (free, forced)] == [{"unit": "c"}] * 2
    with pytest.raises(ModelUnavailable, match="no_such_parser"):
        new_rendering(tool_call_parser="no_such_parser")


TEXTS = [
    "1 < 2",
    "1 <",
    CALL,
    f"Well.\n{CALL}",
    f"{CALL}\n{CALL}",
    CALL[:-12],
    "<tool_call>no</tool_call>",
    '<tool_call>{"name":"clock"}',
]
CUTS = [f"Well. {CALL[:end]}" for end in range(1, len(CALL) - 12)]


async def test_no_argument_ends_a_call_that_a_grammar_holds(render: Render, rendering) -> None:
    """A string may hold the tag that ends calls; whole, and whatever the pieces of a stream."""
    prompt = await render([ASKED], tools=[WEATHER], tool_choice="required")
    arguments = {"unit": "</tool_call>}}</tool_call>\n"}
    text = f"<tool_call>\n{json.dumps({'name': 'weather', 'arguments': arguments})}\n</tool_call>"
    whole = rendering.parser(prompt).parse(text, (1,))
    assert [parsed(call["function"]["arguments"]) for call in whole["tool_calls"]] == [arguments]
    for size in (1, 5, len(text)):
        parser = rendering.parser(prompt)
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        deltas = [parser.feed(piece, (1,), is_last=number == len(pieces)) or {} for number, piece in enumerate(pieces, 1)]
        assert streamed_calls(deltas) == [["weather", arguments]]


async def test_a_stream_has_what_the_whole_reply_has(render: Render, rendering) -> None:
    """Whatever the pieces: the same content, and the same calls, each with its id, type and name once."""
    prompt = await render([ASKED], tools=[WEATHER, CLOCK])
    for text, is_cut in [*((text, False) for text in TEXTS), *((text, True) for text in CUTS)]:
        whole = rendering.parser(prompt).parse(text, (1,), is_cut=is_cut)
        calls = [[call["function"]["name"], parsed(call["function"]["arguments"])] for call in whole.get("tool_calls", ())]
        for size in (1, 5, len(text)):
            pieces = [text[start : start + size] for start in range(0, len(text), size)]
            parser = rendering.parser(prompt)
            last = len(pieces) - 1
            deltas = [
                parser.feed(piece, (1,), is_last=number == last, is_cut=is_cut and number == last) or {}
                for number, piece in enumerate(pieces)
            ]
            assert "".join(delta.get("content", "") for delta in deltas) == (whole["content"] or "")
            assert streamed_calls(deltas) == calls
        assert not is_cut or "<tool_call" not in (whole["content"] or "")


def parsed(arguments: str) -> Any:
    """The arguments, or their text where they were cut."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def streamed_calls(deltas: list[dict[str, Any]]) -> list[list[Any]]:
    calls: dict[int, list[Any]] = {}
    for call in (call for delta in deltas for call in delta.get("tool_calls", ())):
        function = call["function"]
        if call["index"] not in calls:
            assert (call["type"], bool(call["id"])) == ("function", True)
            calls[call["index"]] = [function["name"], function["arguments"]]
        else:
            assert set(call) == {"index", "function"}
            assert set(function) == {"arguments"}
            calls[call["index"]][1] += function["arguments"]
    return [[name, parsed(arguments)] for name, arguments in calls.values()]


@pytest.mark.parametrize("strategy", ["direct", "self_consistency", "beam_search"])
async def test_calls_that_must_be_made_follow_their_schemas(client: openai.OpenAI, strategy: str) -> None:
    """Without `strict`: a required call of two tools, and a named one in OpenAI's former form; the client's helper reads the stream."""
    ask = {"model": MODEL, "messages": [ASKED], "max_tokens": 192, "seed": 1, "extra_body": {"ponder": {"strategy": strategy}}}
    with client.chat.completions.stream(
        tools=[WEATHER, CLOCK], tool_choice="required", parallel_tool_calls=False, **ask
    ) as stream:
        [call] = stream.get_final_completion().choices[0].message.tool_calls
    arguments = json.loads(call.function.arguments)
    assert arguments == {} if call.function.name == "clock" else arguments["unit"] in ("c", "f")
    former = {"functions": [WEATHER["function"]], "function_call": {"name": "weather"}}
    message = client.chat.completions.create(**former, **ask).choices[0].message
    assert message.tool_calls is None
    assert json.loads(message.function_call.arguments)["unit"] in ("c", "f")
