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
