"""From vLLM's outputs to ours: the texts of stop strings and separators."""

from types import SimpleNamespace

import pytest

from app.engine.base import Branch, Output, Prompt
from app.engine.vllm.outputs import with_separator


@pytest.mark.parametrize(
    ("stop_reason", "keeps_stops", "text"),
    [
        ("\n\n", False, "one step\n\n"),  # vLLM took the separator out
        ("\n\n", True, "one step"),  # the caller wants stop strings to stay: vLLM left it there
        ("END", False, "one step"),  # the caller's own stop string
        (2, False, "one step"),  # a stop token
        (None, False, "one step"),  # the end of the answer
    ],
)
def test_a_separator_ends_the_text_of_a_step(stop_reason: int | str | None, keeps_stops: bool, text: str) -> None:
    """Neither the caller's stop strings nor stop tokens do, unless the caller asks for them."""
    sampling = SimpleNamespace(include_stop_str_in_output=keeps_stops)
    prompt = Prompt((1,), 8, sampling=sampling, stop=("END",))
    branch = Branch(id="a", prompt=prompt, prefix=(1,), max_tokens=8, separators=("\n\n",))
    output = Output("one step", (3, 4), 1, 0, "stop", stop_reason)
    assert with_separator(output, branch).text == text
