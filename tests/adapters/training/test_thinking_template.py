"""The chat template of the shipped adapter that thinks: the embedded model's, with thinking as Qwen3 has it."""

from functools import partial

import pytest

from adapters.training.base import load_tokenizer
from tests.adapters.training.test_data import THINKING

QUESTION = {"role": "user", "content": "1 + 1?"}
THOUGHT = {"role": "assistant", "content": "<think>\n1+1=2\n</think>\n\n2"}
CALL = {"function": {"name": "add", "arguments": '{"a": 1}'}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}


@pytest.fixture
def render(tiny):
    return partial(load_tokenizer(tiny, THINKING).apply_chat_template, tokenize=False, add_generation_prompt=True)


@pytest.fixture
def base(tiny):
    return partial(load_tokenizer(tiny).apply_chat_template, tokenize=False, add_generation_prompt=True)


@pytest.mark.parametrize(
    ("variables", "opening"),
    [
        ({}, "<think>\n"),
        ({"enable_thinking": True}, "<think>\n"),
        ({"enable_thinking": False}, "<think>\n\n</think>\n\n"),
    ],
)
def test_it_opens_the_thinking_unless_it_is_turned_off(render, base, variables, opening):
    assert render([QUESTION], **variables) == base([QUESTION]) + opening


@pytest.mark.parametrize("thought", [THOUGHT, {"role": "assistant", "content": "2", "reasoning_content": "1+1=2"}])
def test_thinking_of_earlier_replies_is_dropped(render, base, thought):
    after = [QUESTION, thought, QUESTION]
    assert render(after) == base([QUESTION, {"role": "assistant", "content": "2"}, QUESTION]) + "<think>\n"


@pytest.mark.parametrize("thought", [THOUGHT, {"role": "assistant", "content": "2", "reasoning_content": "1+1=2"}])
def test_thinking_of_the_last_reply_stays(render, thought):
    text = render([QUESTION, thought], add_generation_prompt=False)
    assert text == render([QUESTION]) + "1+1=2\n</think>\n\n2<|im_end|>\n"


def test_thinking_that_a_request_began_is_left_open(render):
    begun = {"role": "assistant", "content": "<think>\n1+1="}
    text = render([QUESTION, begun], add_generation_prompt=False, continue_final_message=True)
    assert text == render([QUESTION]) + "1+1="


def test_thinking_before_a_tool_call_stays_until_the_next_question(render, base):
    called = {"role": "assistant", "content": "", "reasoning_content": "I add.", "tool_calls": [CALL]}
    result = {"role": "tool", "content": "2"}
    text = render([QUESTION, called, result], tools=[TOOL])
    assert "<think>\nI add.\n</think>\n\n<tool_call>\n" in text
    assert "I add." not in render([QUESTION, called, result, THOUGHT, QUESTION], tools=[TOOL])
    plain = {**called, "reasoning_content": ""}
    assert render([QUESTION, plain, result], tools=[TOOL]) == base([QUESTION, plain, result], tools=[TOOL]) + "<think>\n"


def test_calls_are_written_as_the_embedded_model_writes_them(render, base):
    for content in ("", "I add."):
        called = {"role": "assistant", "content": content, "tool_calls": [CALL, CALL]}
        talk = [QUESTION, called, {"role": "tool", "content": "2"}, {"role": "assistant", "content": "2"}, QUESTION]
        assert render(talk, tools=[TOOL]) == base(talk, tools=[TOOL]) + "<think>\n"
