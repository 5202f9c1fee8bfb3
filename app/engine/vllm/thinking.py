"""How a model marks its thinking: from vLLM's reasoning parser and the rendered prompt. Imports nothing of vLLM."""

from collections.abc import Mapping, Sequence
from typing import Any

from strategies.core.thinking import Thinking

SWITCHES = ("enable_thinking", "thinking")
"""Variables of chat templates that switch thinking on and off."""

TAIL = 32
"""Tokens at the end of a prompt in which a template opens or closes a block of thinking."""


def thinking_of(
    parser: Any,
    variables: Mapping[str, Any],
    tokenizer: Any,
    token_ids: Sequence[int],
    *,
    prefill: str = "",
    closing: str = "",
) -> Thinking | None:
    """Return how replies to a prompt mark their thinking; None where they have none, or no marks that the parser tells.

    Args:
        parser: vLLM's reasoning parser for this request, or None.
        variables: of the chat template.
        tokenizer: of the model.
        token_ids: of the prompt.
        prefill: the beginning of the answer, if the prompt ends with one.
        closing: the text with which thinking is ended before its own end. One without the mark is not used.

    """
    start, end = getattr(parser, "reasoning_start_str", None), getattr(parser, "reasoning_end_str", None)
    if not start or not end:
        return None
    is_off = any(variables.get(name) is False for name in SWITCHES)
    end_ids = tuple(tokenizer.encode(closing if end in closing else end, add_special_tokens=False))
    if prefill:
        begun = Thinking(start, end, end_ids, is_open=False)
        return Thinking(start, end, end_ids) if begun.is_inside(prefill) and not is_off else None
    tail = tokenizer.decode(list(token_ids[-TAIL:])).rstrip()
    if tail.endswith(start):  # also in templates of models that always think, which do not know the switches
        return Thinking(start, end, end_ids)
    return None if is_off or tail.endswith(end) else Thinking(start, end, end_ids, is_open=False)
