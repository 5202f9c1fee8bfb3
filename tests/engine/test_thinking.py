"""How the vLLM engine finds out whether a model thinks in its reply to one prompt."""

from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from app.engine.vllm.thinking import thinking_of

PARSER = SimpleNamespace(reasoning_start_str="<think>", reasoning_end_str="</think>")


class Characters:
    """A tokenizer of characters."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return [ord(char) for char in text]

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(map(chr, token_ids))


@pytest.mark.parametrize(
    ("prompt", "prefill", "is_open"),
    [
        ("user: 2+2?\nassistant:<think>\n", "", True),
        ("user: 2+2?\nassistant:", "", False),
        ("user: what does <think> mean?\nassistant:", "", False),
        ("user: 2+2?\nassistant:<think>\n\n</think>\n\n", "", None),
        ("user: 2+2?\nassistant:The answer is", "The answer is", None),
        ("user: 2+2?\nassistant:<think>two and", "<think>two and", True),
        ("user: 2+2?\nassistant:<think>4</think>It", "<think>4</think>It", None),
    ],
)
def test_the_end_of_the_prompt_says_whether_the_reply_begins_with_thinking(
    prompt: str, prefill: str, is_open: bool | None
) -> None:
    """Marks that a user writes do not count; a block that the template closes at once is no thinking."""
    tokenizer = Characters()
    token_ids = tokenizer.encode(prompt, add_special_tokens=False)
    thinking = thinking_of(PARSER, {}, tokenizer, token_ids, prefill=prefill)
    assert (thinking and thinking.is_open) is is_open
    if thinking is not None:
        assert tokenizer.decode(thinking.end_ids) == "</think>"


@pytest.mark.parametrize("name", ["enable_thinking", "thinking"])
def test_thinking_is_switched_off_by_the_templates_variables(name: str) -> None:
    """Templates that then write nothing leave no other sign."""
    assert thinking_of(PARSER, {name: False}, Characters(), [1, 2]) is None
    assert thinking_of(PARSER, {name: True}, Characters(), [1, 2]) is not None


def test_a_template_that_opens_the_thinking_all_the_same_is_believed() -> None:
    """Those of models that always think do not know the variables."""
    prompt = Characters().encode("user: 2+2?\nassistant:<think>\n", add_special_tokens=False)
    thinking = thinking_of(PARSER, {"enable_thinking": False}, Characters(), prompt)
    assert thinking is not None
    assert thinking.is_open


def test_a_parser_without_marks_tells_no_thinking() -> None:
    """Neither does a model without a parser."""
    assert thinking_of(SimpleNamespace(reasoning_start_str=None, reasoning_end_str=None), {}, Characters(), [1]) is None
    assert thinking_of(None, {}, Characters(), [1]) is None


@pytest.mark.parametrize(
    ("closing", "written"), [("Time is up.\n</think>\n\n",) * 2, ("Time is up.", "</think>"), ("", "</think>")]
)
def test_the_operator_chooses_the_text_that_ends_thinking(closing: str, written: str) -> None:
    """With the mark in it: without, the thinking would go on."""
    thinking = thinking_of(PARSER, {}, Characters(), [1, 2], closing=closing)
    assert thinking is not None
    assert Characters().decode(list(thinking.end_ids)) == written
