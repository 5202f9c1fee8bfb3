"""Where the thinking of a reply ends, by its marks."""

import pytest

from strategies.core.thinking import Thinking

OPEN = Thinking("<think>", "</think>")
CLOSED = Thinking("<think>", "</think>", is_open=False)


@pytest.mark.parametrize(
    ("thinking", "text", "parts"),
    [
        (OPEN, "2+2\n</think>\n\n4", ("2+2\n", "\n\n4")),
        (OPEN, "2+2", ("2+2", None)),
        (OPEN, "", ("", None)),
        (OPEN, "2+2</think>", ("2+2", "")),
        (OPEN, "\n<think>2+2</think>4", ("2+2", "4")),
        (OPEN, "a</think>b</think>c", ("a", "b</think>c")),
        (CLOSED, "4", ("", "4")),
        (CLOSED, "<think>2+2</think>4", ("2+2", "4")),
        (CLOSED, "<think>2+2", ("2+2", None)),
        (CLOSED, "Write <think> to begin.", ("", "Write <think> to begin.")),
    ],
)
def test_the_answer_is_what_follows_the_thinking(thinking: Thinking, text: str, parts: tuple[str, str | None]) -> None:
    """A reply that has not ended its thinking has no answer; one that does not begin with thinking is all answer."""
    assert thinking.split(text) == parts
    assert thinking.is_inside(text) is (parts[1] is None)
