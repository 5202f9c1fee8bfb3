"""What vLLM's own server promises its clients beyond plain answers, with the official client on the real engine."""

import json
import re
from collections import defaultdict

import openai
import pytest

pytestmark = pytest.mark.vllm

COUNT = [{"role": "user", "content": "Count: one, two, three, four"}]
CHAT = {"model": "smollm2-135m", "messages": COUNT, "max_tokens": 8, "extra_body": {"ponder": {"strategy": "direct"}}}
TEXT = {"model": "smollm2-135m", "max_tokens": 4, "extra_body": {"ponder": {"strategy": "direct"}}}


def test_usage_comes_in_a_chunk_of_its_own_and_only_on_request(client: openai.OpenAI) -> None:
    for create, body in ((client.chat.completions.create, CHAT), (client.completions.create, {**TEXT, "prompt": "One, two,"})):
        plain = list(create(**body, stream=True))
        *chunks, last = list(create(**body, stream=True, stream_options={"include_usage": True}))
        assert all(len(chunk.choices) == 1 and chunk.usage is None for chunk in (*plain, *chunks))
        assert (last.choices, last.usage.total_tokens) == ([], last.usage.prompt_tokens + last.usage.completion_tokens)


def test_choices_of_a_stream_are_those_of_the_whole_reply(client: openai.OpenAI) -> None:
    """Each has its index and its finish reason, whatever the order of the chunks."""
    body = {**CHAT, "n": 3, "seed": 7, "temperature": 1.0}
    whole = {choice.index: choice.message.content for choice in client.chat.completions.create(**body).choices}
    texts, ends = defaultdict(str), []
    for chunk in client.chat.completions.create(**body, stream=True):
        [choice] = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        ends += [choice.index] if choice.finish_reason else []
    assert (dict(texts), sorted(ends)) == (whole, [0, 1, 2])


def test_a_stop_string_never_shows_in_a_stream(client: openai.OpenAI) -> None:
    """Nor does its beginning, which comes in an earlier chunk than its end."""
    body = {**CHAT, "temperature": 0, "max_tokens": 24}
    text = client.chat.completions.create(**body).choices[0].message.content
    stop = text[len(text) // 3 : len(text) // 3 + 9]  # over more than one token
    chunks = list(client.chat.completions.create(**body, stop=[stop, "b", "c", "d", "e"][:1], stream=True))
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert streamed == text[: text.index(stop)]
    assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("is_tokens", [False, True])
def test_several_prompts_of_several_choices(client: openai.OpenAI, is_tokens: bool) -> None:
    """The choices of a prompt stand together, numbered without gaps."""
    prompts = [[504, 3575, 314], [504, 5345, 314]] if is_tokens else ["The sky is", "The grass is"]
    body = {**TEXT, "prompt": prompts, "n": 2, "seed": 3}
    whole = client.completions.create(**body)
    assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    texts = defaultdict(str)
    for chunk in client.completions.create(**body, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert dict(texts) == {choice.index: choice.text for choice in whole.choices}


@pytest.mark.parametrize("strategy", ["direct", "best_of_n", "self_consistency"])
def test_an_answer_has_the_form_that_was_asked_for(client: openai.OpenAI, strategy: str) -> None:
    """Each form of vLLM's `structured_outputs`, and a former one, with strategies of each kind."""
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "maximum": 9}},
        "required": ["n"],
        "additionalProperties": False,
    }
    forms = [
        ({"structured_outputs": {"choice": ["red", "green"]}}, lambda text: text in {"red", "green"}),
        ({"guided_regex": "[0-9]{3}-[a-z]{2}"}, lambda text: re.fullmatch("[0-9]{3}-[a-z]{2}", text)),
        ({"structured_outputs": {"json": schema}}, lambda text: set(json.loads(text)) == {"n"}),
    ]
    options = {"strategy": strategy, **({} if strategy == "direct" else {"n": 2})}
    for form, has_form in forms:
        options |= {"verifier": "likelihood"} if strategy == "best_of_n" else {}
        extra = {**form, "ponder": {**options, **({} if strategy == "direct" else {"answer": "text"})}}
        reply = client.chat.completions.create(**{**CHAT, "max_tokens": 32, "temperature": 0.7, "extra_body": extra})
        assert has_form(reply.choices[0].message.content), (form, reply.choices[0].message.content)
