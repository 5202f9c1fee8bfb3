"""The scripted engine, which plugin authors test with: what its constructor takes."""

import pytest

from app.engine.base import Branch
from app.engine.scripted import ScriptedEngine

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("script", "answers"),
    [
        ("always this", ["always this", "always this", "always this"]),
        (["one", "two"], ["one", "two", "one"]),
        (lambda prompt, number: f"{number} after {prompt.split()[1]}", ["0 after Hi", "1 after Hi", "2 after Hi"]),
    ],
)
async def test_a_script_is_a_text_several_texts_or_a_function(script, answers: list[str]) -> None:
    """Several texts are answered in turn; a function gets the prompt and the number of answers before."""
    engine = ScriptedEngine(script)
    prompt = await engine.render_chat({"messages": [{"role": "user", "content": "Hi"}]})
    texts = []
    for number in range(3):
        branch = Branch(id=str(number), prompt=prompt, prefix=prompt.token_ids, max_tokens=10)
        texts += [output.text async for output in engine.generate(branch)]
    assert texts == answers


async def test_a_thinking_model_opens_its_thinking_in_the_prompt() -> None:
    """So that tests play a model that thinks, and one whose thinking the request switches off."""
    engine = ScriptedEngine("two and two </think> 4", thinking=("<think>", "</think>"))
    body = {"messages": [{"role": "user", "content": "2+2?"}]}
    prompt = await engine.render_chat(body)
    assert prompt.text.endswith("<think>")
    assert prompt.thinking is not None
    assert prompt.thinking.is_open
    assert engine.decode(prompt.thinking.end_ids).strip() == "</think>"
    assert engine.parser(prompt).parse("two and two </think> 4", ()) == {"reasoning": "two and two ", "content": " 4"}
    for off in ({"chat_template_kwargs": {"enable_thinking": False}}, {"reasoning_effort": "none"}):
        prompt = await engine.render_chat({**body, **off})
        assert prompt.thinking is None
        assert engine.parser(prompt).parse("4", ()) == {"content": "4"}
