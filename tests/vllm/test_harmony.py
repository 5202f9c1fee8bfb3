"""gpt-oss has a form of chats of its own, Harmony: each message has a channel, and thinking, answers and calls have different ones."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from app.api.schemas import ChatRequest
from app.engine.base import Prompt
from app.engine.vllm.options import EngineOptions
from app.engine.weights.default_model import ensure_default_model
from app.settings import Settings
from tests.vllm.families import GPT_OSS, write_model
from tests.vllm.front_end import without_engine

pytestmark = [pytest.mark.vllm, pytest.mark.anyio, pytest.mark.filterwarnings("ignore:max_tokens is deprecated")]

UNIT = {"type": "object", "properties": {"unit": {"enum": ["c", "f"]}}, "required": ["unit"]}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": UNIT}}
THOUGHT = "<|channel|>analysis<|message|>They ask for it.<|end|><|start|>assistant"
ANSWER = f"{THOUGHT}<|channel|>final<|message|>It is 42."
CALL = f'{THOUGHT}<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{{"unit": "c"}}<|call|>'


@pytest.fixture(scope="module")
def rendering(tmp_path_factory: pytest.TempPathFactory):
    """What renders prompts and reads replies of a gpt-oss, with all parsers as they are chosen."""
    from vllm.model_executor.models import registry

    from app.engine.vllm.arguments import engine_arguments
    from app.engine.vllm.rendering import Rendering

    folder = tmp_path_factory.mktemp("gpt-oss")
    write_model(GPT_OSS, folder, ensure_default_model(Settings().cache_dir.expanduser(), print), has_weights=False)
    options = EngineOptions(model=str(folder), name="gpt-oss", dtype="float32", max_model_len=512, enforce_eager=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_run_in_subprocess", lambda look: look())  # one that would import vLLM again
        llm = without_engine(engine_arguments(options).create_engine_config())
    return Rendering(options, lambda: llm)


@pytest.fixture(scope="module")
def encode() -> Callable[[str], Sequence[int]]:
    """From a text with Harmony's marks to token ids."""
    from vllm.entrypoints.openai.parser.harmony_utils import get_encoding

    return lambda text: get_encoding().encode(text, allowed_special="all")


async def rendered(rendering, **fields: Any) -> Prompt:
    body = ChatRequest.model_validate({"model": "gpt-oss", "messages": [{"role": "user", "content": "Weather?"}], **fields})
    return await rendering.chat(body.for_engine(), None)


@pytest.mark.parametrize(
    ("text", "content", "arguments"),
    [(ANSWER, "It is 42.", ""), (CALL, "", '{"unit": "c"}'), (THOUGHT[:45], "", "")],
    ids=["an answer", "a call", "thinking that was cut"],
)
async def test_thinking_answers_and_calls_are_told_apart(rendering, encode, text: str, content: str, arguments: str) -> None:
    """By their tokens, since the text of a reply lacks the marks; whole, as votes read it, and from a stream."""
    prompt = await rendered(rendering, tools=[WEATHER])
    ids = tuple(encode(text))
    whole = rendering.parser(prompt).parse("", ids)
    parser = rendering.parser(prompt)
    deltas = [parser.feed("", (one,), is_last=number == len(ids)) or {} for number, one in enumerate(ids, 1)]
    for fields in ([whole], deltas):
        thought = "".join(delta.get("reasoning") or "" for delta in fields)
        calls = [call["function"] for delta in fields for call in delta.get("tool_calls", ())]
        assert thought
        assert "They ask for it.".startswith(thought)
        assert "".join(delta.get("content") or "" for delta in fields) == content
        assert "".join(call.get("name", "") for call in calls) == ("weather" if arguments else "")
        assert "".join(call["arguments"] for call in calls) == arguments


async def test_the_grammar_of_a_call_has_the_channels(rendering) -> None:
    """The model may think before a call that it must make."""
    prompt = await rendered(rendering, tools=[WEATHER], tool_choice="required")
    assert prompt.is_constrained
    tag = prompt.sampling.structured_outputs.structural_tag
    assert "<|channel|>analysis" in tag
    assert "functions.weather" in tag


async def test_the_effort_is_told_to_the_model(rendering, encode) -> None:
    """In the system message, as vLLM does."""
    high = await rendered(rendering, reasoning_effort="high")
    asked = tuple(encode("Reasoning: high"))
    assert any(high.token_ids[start : start + len(asked)] == asked for start in range(len(high.token_ids)))
