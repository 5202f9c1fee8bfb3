"""The whole surface on real vLLM with the embedded model, through the official client."""

import json
import re

import openai
import pytest

pytestmark = [pytest.mark.vllm, pytest.mark.anyio]

MODEL = "smollm2-135m"
SUM = [{"role": "user", "content": "What is 17 + 25?"}]
TALK = [{"role": "user", "content": "Say hello."}]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "people": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["city", "people"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def direct(**fields):
    """Arguments of a direct request."""
    return {"model": MODEL, "messages": TALK, "max_tokens": 16, "extra_body": {"ponder": {"strategy": "direct"}}, **fields}


def test_models_are_listed_with_their_strategies(client: openai.OpenAI) -> None:
    """The base model, and one alias per strategy."""
    names = [model.id for model in client.models.list()]
    assert names[0] == MODEL
    assert f"{MODEL}@self_consistency" in names
    assert client.models.retrieve(names[1]).id == names[1]


def test_a_direct_answer_and_its_account(client: openai.OpenAI) -> None:
    """Usage and FLOPs of one branch are what the architecture says."""
    reply = client.chat.completions.create(**direct(temperature=0))
    again = client.chat.completions.create(**direct(temperature=0))
    assert reply.choices[0].message.content == again.choices[0].message.content
    ponder = reply.model_extra["ponder"]
    assert ponder["tokens"]["decoded"] == reply.usage.completion_tokens
    assert ponder["tokens"]["prefilled"] + ponder["tokens"]["cached"] == reply.usage.prompt_tokens
    assert again.model_extra["ponder"]["tokens"]["cached"] == 32  # one whole block of the prefix
    assert again.model_extra["ponder"]["flops"]["total"] < ponder["flops"]["total"] or ponder["tokens"]["cached"] == 32


def test_auto_votes_on_arithmetic(client: openai.OpenAI) -> None:
    """A question with a checkable answer gets answers that vote until more are not worth it; the prompt is prefilled once."""
    options = {"effort": "high"}
    reply = client.chat.completions.create(model=MODEL, messages=SUM, max_tokens=64, extra_body={"ponder": options})
    ponder = reply.model_extra["ponder"]
    assert ponder["strategy"] == "adaptive"
    assert all(0 < ponder["difficulty"][moment] < 1 for moment in ("before", "first_tokens", "after"))
    assert ponder["difficulty"]["estimator"] == "general"
    assert ponder["stop_reason"] in ("settled", "completed", "diminishing_returns")
    assert ponder["tokens"]["cached"] > 0
    assert ponder["flops"]["saved_by_cache"] > 0
    assert reply.usage.completion_tokens == ponder["tokens"]["decoded"]


@pytest.mark.parametrize("verifier", ["likelihood", "self_certainty", "majority"])
def test_best_of_n_with_each_verifier(client: openai.OpenAI, verifier: str) -> None:
    """The winner has the best score among the candidates that are whole."""
    options = {"strategy": "best_of_n", "n": 4, "verifier": verifier}
    reply = client.chat.completions.create(model=MODEL, messages=SUM, max_tokens=64, seed=1, extra_body={"ponder": options})
    candidates = reply.model_extra["ponder"]["candidates"]
    assert len(candidates) == 4
    assert all(0 <= candidate["score"] <= 1 for candidate in candidates)
    assert len({candidate["score"] for candidate in candidates}) > 1


@pytest.mark.parametrize("schedule", ["parallel", "waves"])
@pytest.mark.parametrize("weights", ["none", "likelihood"])
def test_self_consistency_with_each_schedule_and_weighting(client: openai.OpenAI, schedule: str, weights: str) -> None:
    """Both schedules answer and stop."""
    options = {"strategy": "self_consistency", "n": 8, "schedule": schedule, "weights": weights}
    reply = client.chat.completions.create(model=MODEL, messages=SUM, max_tokens=48, extra_body={"ponder": options})
    assert reply.choices[0].message.content
    assert len(reply.model_extra["ponder"]["candidates"]) <= 8


def test_a_seed_gives_the_same_answers_again(client: openai.OpenAI) -> None:
    """For one sample and for a vote, once the prompt is cached: before, the arithmetic is done in another order."""
    for strategy in ("direct", "best_of_n"):
        texts = [
            client.chat.completions.create(
                **direct(seed=5, temperature=0.8, extra_body={"ponder": {"strategy": strategy}})
            ).choices[0].message.content
            for _ in range(3)
        ]  # fmt: skip
        assert texts[1] == texts[2]


async def test_a_direct_stream(async_client: openai.AsyncOpenAI) -> None:
    """Role first, tokens as they come, usage at the end, the same text as without a stream."""
    whole = await async_client.chat.completions.create(**direct(temperature=0))
    stream = await async_client.chat.completions.create(
        **direct(temperature=0, stream=True, stream_options={"include_usage": True})
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert len(chunks) > 4


async def test_a_streamed_search(async_client: openai.AsyncOpenAI) -> None:
    """Progress as reasoning, then the winner."""
    stream = await async_client.chat.completions.create(model=MODEL, messages=SUM, max_tokens=48, stream=True)
    chunks = [chunk async for chunk in stream]
    thoughts = "".join((c.choices[0].delta.model_extra or {}).get("reasoning", "") for c in chunks if c.choices)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert re.search(r"Answer 1", thoughts)
    assert text
    assert chunks[-1].model_extra["ponder"]["strategy"] == "adaptive"


@pytest.mark.parametrize("strategy", ["direct", "best_of_n", "self_consistency"])
def test_json_schema_survives_every_strategy(client: openai.OpenAI, strategy: str) -> None:
    """What comes back follows the schema."""
    reply = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Name a city and how many people live there, as JSON."}],
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}},
        max_tokens=96,
        extra_body={"ponder": {"strategy": strategy, **({} if strategy == "direct" else {"n": 4})}},
    )
    city = json.loads(reply.choices[0].message.content)
    assert set(city) == {"city", "people"}


def test_json_object(client: openai.OpenAI) -> None:
    """Any object, when no schema is given; a small model may not finish it, but never writes anything else."""
    reply = client.chat.completions.create(**direct(response_format={"type": "json_object"}, max_tokens=64))
    assert reply.choices[0].message.content.lstrip().startswith("{")


@pytest.mark.parametrize("strategy", ["direct", "best_of_n", "self_consistency"])
@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_required_tool_is_called_under_every_strategy(client: openai.OpenAI, strategy: str, is_streamed: bool) -> None:
    """The call names the tool and its arguments parse."""
    ask = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "What is the weather in Rome?"}],
        "tools": [WEATHER],
        "tool_choice": "required",
        "max_tokens": 256,  # a call may begin with white space, as much as the model likes
        "seed": 1,
        "extra_body": {"ponder": {"strategy": strategy, **({} if strategy == "direct" else {"n": 4})}},
    }
    if is_streamed:
        name = arguments = ""
        for chunk in client.chat.completions.create(stream=True, **ask):
            for choice in chunk.choices:
                for call in choice.delta.tool_calls or []:
                    name += call.function.name or ""
                    arguments += call.function.arguments or ""
    else:
        reply = client.chat.completions.create(**ask)
        assert reply.choices[0].finish_reason == "tool_calls"
        function = reply.choices[0].message.tool_calls[0].function
        name, arguments = function.name, function.arguments
    assert name.startswith("get_weather")
    assert "city" in json.loads(arguments)


def test_a_named_tool(client: openai.OpenAI) -> None:
    """It is called, and the choice ends with "stop", as OpenAI's does."""
    reply = client.chat.completions.create(
        **direct(
            messages=[{"role": "user", "content": "Weather in Rome?"}],
            tools=[WEATHER],
            tool_choice={"type": "function", "function": {"name": "get_weather"}},
            max_tokens=64,
        )
    )
    assert reply.choices[0].message.tool_calls[0].function.name == "get_weather"
    assert reply.choices[0].finish_reason == "stop"


def test_a_conversation_with_tools_is_understood(client: openai.OpenAI) -> None:
    """Earlier calls and their results are rendered; the tools are in the prompt."""
    with_tools = client.chat.completions.create(
        **direct(
            messages=[
                {"role": "user", "content": "Weather in Rome?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'}}
                    ],
                },
                {"role": "tool", "tool_call_id": "1", "content": "Sunny, 24 degrees"},
            ],
            tools=[WEATHER],
        )
    )
    assert with_tools.usage.prompt_tokens > 150


def test_log_probabilities(client: openai.OpenAI) -> None:
    """One entry per token, alternatives sorted, the sampled token's own value."""
    reply = client.chat.completions.create(**direct(logprobs=True, top_logprobs=3, max_tokens=5, temperature=0))
    entries = reply.choices[0].logprobs.content
    assert len(entries) == reply.usage.completion_tokens
    for entry in entries:
        values = [alternative.logprob for alternative in entry.top_logprobs]
        assert len(values) == 3
        assert values == sorted(values, reverse=True)
        assert entry.logprob == pytest.approx(values[0])  # greedy
    assert "".join(entry.token for entry in entries) == reply.choices[0].message.content


def test_stop_n_bias_and_penalties(client: openai.OpenAI) -> None:
    """The sampling parameters of OpenAI reach vLLM."""
    count = [{"role": "user", "content": "Count: 1, 2, 3, 4, 5, 6, 7, 8. Count again."}]
    free = client.chat.completions.create(**direct(messages=count, temperature=0, max_tokens=24)).choices[0]
    word = free.message.content.split()[1]
    stopped = client.chat.completions.create(**direct(messages=count, temperature=0, max_tokens=24, stop=word)).choices[0]
    assert word not in stopped.message.content
    assert stopped.finish_reason == "stop"
    several = client.chat.completions.create(**direct(n=3, temperature=1.0, frequency_penalty=0.5, presence_penalty=0.5))
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    biased = client.chat.completions.create(**direct(logit_bias={"28": 100}, max_tokens=4, temperature=0, logprobs=True))
    assert len({entry.token for entry in biased.choices[0].logprobs.content}) == 1


def test_text_completions(client: openai.OpenAI) -> None:
    """One prompt, several prompts, token ids, echo and log-probabilities."""
    one = client.completions.create(model=MODEL, prompt="One, two, three,", max_tokens=6, temperature=0, echo=True, logprobs=2)
    assert one.choices[0].text.startswith("One, two, three,")
    assert len(one.choices[0].logprobs.tokens) == one.usage.prompt_tokens + 6
    assert "".join(one.choices[0].logprobs.tokens) == one.choices[0].text
    assert one.choices[0].logprobs.text_offset[0] == 0
    two = client.completions.create(model=MODEL, prompt=["A", "B"], max_tokens=3, n=2, seed=1)
    assert [choice.index for choice in two.choices] == [0, 1, 2, 3]
    ids = client.completions.create(model=MODEL, prompt=[504, 253, 1592], max_tokens=3)
    assert ids.usage.prompt_tokens == 3
    streamed = client.completions.create(model=MODEL, prompt="One, two, three,", max_tokens=6, temperature=0, stream=True)
    text = "".join(chunk.choices[0].text for chunk in streamed if chunk.choices)
    assert one.choices[0].text == "One, two, three," + text


@pytest.mark.parametrize("strategy", ["direct", "best_of_n", "beam_search", "mcts"])
def test_an_answer_that_was_begun_is_continued(client: openai.OpenAI, strategy: str) -> None:
    """With every kind of strategy: the model finishes the word in whose middle the conversation ends."""
    begun = [
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "The capital of France is Par"},
    ]
    parameters = {"verifier": "likelihood"} if strategy == "best_of_n" else {}
    temperature = 0 if strategy == "direct" else 0.2
    extra = {"continue_final_message": True, "ponder": {"strategy": strategy, **parameters}}
    reply = client.chat.completions.create(
        model="smollm2-135m", messages=begun, max_tokens=4, temperature=temperature, seed=1, extra_body=extra
    )
    assert (reply.choices[0].message.content or "").startswith("is")
