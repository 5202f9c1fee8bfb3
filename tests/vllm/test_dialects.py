"""How conversations are rendered and replies are read with chat templates of other models, without an engine."""

from typing import Any

import pytest

from app.engine.vllm.options import EngineOptions

pytestmark = [pytest.mark.vllm, pytest.mark.anyio]

ALWAYS = (
    "{% for one in messages %}{{ one.role }}: {{ one.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: <think>\n{% endif %}"
)
"""Opens the thinking whatever the request says, as models do that always think."""


@pytest.mark.parametrize("fields", [{}, {"chat_template_kwargs": {"enable_thinking": False}}, {"reasoning_effort": "none"}])
async def test_thinking_that_cannot_be_switched_off_is_no_answer(llm: Any, fields: dict[str, Any]) -> None:
    """The rendered prompt is believed, and not the request."""
    from app.engine.vllm.rendering import Rendering

    rendering = Rendering(EngineOptions(model=llm.model_config.model, name="m", chat_template=ALWAYS), lambda: llm)
    prompt = await rendering.chat(
        {"messages": [{"role": "user", "content": "2+2?"}], "max_completion_tokens": 99, **fields}, None
    )
    assert prompt.thinking is not None
    assert prompt.thinking.is_open
    text = "Two and two.\n</think>\n\n4"
    message = rendering.parser(prompt).parse(text, rendering.encode(text))
    assert (message["reasoning"].strip(), message["content"].strip()) == ("Two and two.", "4")
