"""Log-probabilities, echoed prompts and token ids, whole and streamed, over the scripted engine."""

import json
from typing import Any

import pytest

from app.api import logprobs
from app.engine.base import RankedToken
from strategies.core.values import TokenLogprob

pytestmark = pytest.mark.anyio

PROMPT = {"model": "scripted", "prompt": "Once upon", "temperature": 0}


async def complete(served: Any, **fields: object) -> dict[str, Any]:
    """A whole reply of `/v1/completions`, which must be a 200."""
    response = await served.client.post("/v1/completions", json={**PROMPT, **fields})
    assert response.status_code == 200, response.text
    return response.json()


async def streamed(served: Any, path: str = "completions", **fields: object) -> list[dict[str, Any]]:
    """The chunks of a stream."""
    body = {**PROMPT, **fields, "stream": True} if path == "completions" else {"model": "scripted", **fields, "stream": True}
    response = await served.client.post(f"/v1/{path}", json=body)
    assert response.status_code == 200, response.text
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def joined(chunks: list[dict[str, Any]], index: int) -> dict[str, Any]:
    """The text and the log-probabilities of one choice of a streamed text completion."""
    parts = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    logprobs = [part["logprobs"] for part in parts if part["logprobs"]]
    keys = logprobs[0] if logprobs else ()
    return {
        "text": "".join(part["text"] for part in parts),
        "logprobs": {key: [value for one in logprobs for value in one[key]] for key in keys},
        "finish_reason": parts[-1]["finish_reason"],
    }


async def test_an_echo_has_the_log_probabilities_of_the_prompt(serve) -> None:
    """The first token follows nothing and has none; offsets count from the start of the prompt."""
    async with serve([" a time"]) as served:
        [choice] = (await complete(served, echo=True, logprobs=2))["choices"]
        chunks = await streamed(served, echo=True, logprobs=2)
    assert choice["text"] == "Once upon a time"
    found = choice["logprobs"]
    assert found["tokens"] == ["Once", " upon", " a", " time"]
    assert found["text_offset"] == [0, 4, 9, 11]
    assert found["token_logprobs"] == [None, pytest.approx(-0.4), pytest.approx(-0.1), pytest.approx(-0.4)]
    assert found["top_logprobs"][0] is None
    assert list(found["top_logprobs"][1]) == [" upon", "alternative 1"]
    assert joined(chunks, 0) == {"text": choice["text"], "logprobs": found, "finish_reason": "stop"}


async def test_no_alternatives_still_name_the_sampled_token(serve) -> None:
    """As vLLM's server does: `logprobs: 0` is the token's own log-probability."""
    async with serve([" a time"]) as served:
        [choice] = (await complete(served, logprobs=0))["choices"]
    assert choice["logprobs"]["top_logprobs"] == [{" a": pytest.approx(-0.1)}, {" time": pytest.approx(-0.4)}]


@pytest.mark.parametrize("strategy", ["direct", "self_consistency", "best_of_n", "beam_search"])
async def test_no_tokens_but_the_echoed_prompt(serve, strategy: str) -> None:
    """With any strategy: nothing is generated but the token that comes with the log-probabilities, which is counted and dropped."""
    asked = {"echo": True, "max_tokens": 0, "ponder": {"strategy": strategy, "answer": "math"}, "temperature": 1}
    async with serve([" a time"]) as served:
        reply = await complete(served, **asked, logprobs=1)
        chunks = await streamed(served, **asked, logprobs=1)
        silent = await complete(served, **asked)
    [choice] = reply["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("Once upon", "length")
    assert choice["logprobs"]["tokens"] == ["Once", " upon"]
    assert reply["usage"]["completion_tokens"] == 1
    assert joined(chunks, 0) == {"text": "Once upon", "logprobs": choice["logprobs"], "finish_reason": "length"}
    assert silent["choices"][0]["text"] == "Once upon"
    assert silent["usage"]["completion_tokens"] == 0


@pytest.mark.parametrize("max_tokens", [0, 1])
async def test_an_empty_prompt_is_echoed_as_nothing(serve, max_tokens: int) -> None:
    asked = {"prompt": "", "echo": True, "logprobs": 1, "max_tokens": max_tokens}
    async with serve(["a time"]) as served:
        [choice] = (await complete(served, **asked))["choices"]
        chunks = await streamed(served, **asked)
    assert choice["text"] == joined(chunks, 0)["text"] == "a"[:max_tokens]
    assert (choice["logprobs"] or {"tokens": []})["tokens"] == ["a"][:max_tokens]


async def test_token_ids_are_echoed_as_text(serve) -> None:
    async with serve([" a time"]) as served:
        ids = served.engine.encode("Once upon")
        [choice] = (await complete(served, prompt=ids, echo=True, logprobs=0))["choices"]
    assert choice["text"] == "Once upon a time"
    assert choice["logprobs"]["tokens"] == ["Once", " upon", " a", " time"]


@pytest.mark.parametrize("as_ids", [False, True])
async def test_several_prompts_with_several_choices(serve, *, as_ids: bool) -> None:
    """Choice i of prompt p has the index p * n + i, whole and streamed, and each echoes its own prompt."""
    async with serve([" x y"]) as served:
        texts = ["Once upon", "Twice"]
        prompts = [served.engine.encode(text) for text in texts] if as_ids else texts
        asked = {"prompt": prompts, "n": 2, "echo": True, "logprobs": 1, "temperature": 1}
        choices = (await complete(served, **asked))["choices"]
        chunks = await streamed(served, **asked)
    assert [choice["index"] for choice in choices] == [0, 1, 2, 3]
    assert [choice["text"] for choice in choices] == ["Once upon x y"] * 2 + ["Twice x y"] * 2
    assert choices[3]["logprobs"]["text_offset"] == [0, 5, 7]
    for choice in choices:
        wanted = {key: choice[key] for key in ("text", "logprobs", "finish_reason")}
        assert joined(chunks, choice["index"]) == wanted


async def test_prompt_logprobs_of_a_completion(serve) -> None:
    """VLLM's shape: an object from token id to log-probability, rank and text; None for the first token."""
    async with serve([" a time"]) as served:
        [choice] = (await complete(served, prompt_logprobs=1))["choices"]
        upon = str(served.engine.encode(" upon")[0])
    first, second = choice["prompt_logprobs"]
    assert first is None
    assert second == {upon: {"logprob": pytest.approx(-0.4), "rank": 1, "decoded_token": " upon"}}
    assert choice["text"] == " a time"


@pytest.mark.parametrize("strategy", ["direct", "self_consistency", "tree_of_thoughts"])
async def test_prompt_logprobs_of_a_chat_with_any_strategy(serve, strategy: str) -> None:
    """They cost one pass over the prompt, which does not read the cache, and the generated token is counted."""
    async with serve(["It is 42."]) as served:
        plain = (await served.chat(ponder={"strategy": strategy}, seed=1)).json()
        reply = (await served.chat("What is 18 + 24?", ponder={"strategy": strategy}, seed=1, prompt_logprobs=0)).json()
    assert [position is None for position in reply["prompt_logprobs"]] == [True] + [False] * (
        reply["usage"]["prompt_tokens"] - 1
    )
    assert all(len(position) == 1 for position in reply["prompt_logprobs"][1:])
    assert "prompt_logprobs" not in plain
    assert reply["usage"]["completion_tokens"] == plain["usage"]["completion_tokens"] + 1
    assert reply["ponder"]["branches"] == plain["ponder"]["branches"]


async def test_a_budget_without_room_gives_no_prompt_logprobs(serve) -> None:
    """The reply says which budget, and is whole otherwise."""
    async with serve(["It is 42."]) as served:
        reply = (await served.chat(prompt_logprobs=0, ponder={"strategy": "direct", "budget": {"flops": 1}})).json()
    assert reply["prompt_logprobs"] is None
    assert reply["ponder"]["stop_reason"] == "budget_flops"


async def test_prompt_logprobs_are_read_before_the_answer_and_leave_the_cache_to_it(serve) -> None:
    """So the pass over the prompt is paid once."""
    async with serve([" a time"]) as served:
        reply = await complete(served, prompt="word " * 40, prompt_logprobs=0)
        scored, answered = served.engine.branches
    assert (scored.num_prompt_logprobs, answered.num_prompt_logprobs) == (0, None)
    assert reply["usage"]["prompt_tokens_details"]["cached_tokens"] == 32
    assert reply["ponder"]["tokens"]["cached"] == 32


@pytest.mark.parametrize("path", ["completions", "chat/completions"])
async def test_a_stream_has_no_prompt_logprobs(serve, path: str) -> None:
    body = {**PROMPT, "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    async with serve() as served:
        refused = await served.client.post(f"/v1/{path}", json={**body, "prompt_logprobs": 1})
        none = await served.client.post(f"/v1/{path}", json={**body, "prompt_logprobs": 0})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "prompt_logprobs")
    assert none.status_code == 200


async def test_no_tokens_without_an_echo_are_refused(serve) -> None:
    async with serve() as served:
        response = await served.client.post("/v1/completions", json={**PROMPT, "max_tokens": 0})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "max_tokens")


@pytest.mark.parametrize("path", ["completions", "chat/completions"])
async def test_token_ids_of_the_prompt_and_the_answer(serve, path: str) -> None:
    """A stream has the prompt's on the first chunk of a choice, and those of the answer with their text."""
    fields = {"prompt": "Hi"} if path == "completions" else {"messages": [{"role": "user", "content": "Hi"}]}
    async with serve(["one two"]) as served:
        reply = (await served.client.post(f"/v1/{path}", json={"model": "scripted", **fields, "return_token_ids": True})).json()
        chunks = await streamed(served, path, **fields, return_token_ids=True)
        [choice] = reply["choices"]
        holder = choice if path == "completions" else reply
        first = chunks[0]["choices"][0] if path == "completions" else chunks[0]
        assert served.engine.decode(holder["prompt_token_ids"]).startswith("Hi" if path == "completions" else "user: Hi")
        assert served.engine.decode(choice["token_ids"]) == "one two"
    assert first["prompt_token_ids"] == holder["prompt_token_ids"]
    ids = [token for chunk in chunks for one in chunk["choices"] for token in one.get("token_ids", ())]
    assert ids == choice["token_ids"]


async def test_tokens_as_token_ids(serve) -> None:
    """In each shape, alternatives too; a chat's bytes are those of the text."""
    async with serve(["one two"]) as served:
        text = await complete(served, echo=True, logprobs=1, return_tokens_as_token_ids=True)
        chat = (await served.chat(logprobs=True, top_logprobs=2, return_tokens_as_token_ids=True)).json()
        one, upon = (f"token_id:{served.engine.encode(word)[0]}" for word in ("one", " upon"))
    assert text["choices"][0]["logprobs"]["tokens"][1:3] == [upon, one]
    assert list(text["choices"][0]["logprobs"]["top_logprobs"][2]) == [one]
    token = chat["choices"][0]["logprobs"]["content"][0]
    assert (token["token"], bytes(token["bytes"])) == (one, b"one")
    assert [top["token"].partition(":")[0] for top in token["top_logprobs"]] == ["token_id"] * 2


async def test_a_chat_echoes_the_message_that_it_continues(serve) -> None:
    """Not a user's message, which the answer does not continue."""
    messages = [{"role": "user", "content": "Sum?"}, {"role": "assistant", "content": "It is"}]
    asked = {"messages": messages, "echo": True, "continue_final_message": True, "add_generation_prompt": False}
    async with serve([" 42."]) as served:
        reply = (await served.client.post("/v1/chat/completions", json={"model": "scripted", **asked})).json()
        chunks = await streamed(served, "chat/completions", **asked)
        users = (await served.chat("Sum?", echo=True)).json()
    assert reply["choices"][0]["message"]["content"] == "It is 42."
    assert "".join(one["delta"].get("content") or "" for chunk in chunks for one in chunk["choices"]) == "It is 42."
    assert users["choices"][0]["message"]["content"] == " 42."


async def test_a_chat_tells_its_rendered_prompt(serve) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    async with serve() as served:
        reply = (await served.chat("Hi", return_prompt_text=True)).json()
        chunks = await streamed(served, "chat/completions", messages=messages, return_prompt_text=True)
    assert reply["prompt_text"] == chunks[0]["prompt_text"] == "user: Hi\nassistant:"


async def test_a_stop_string_that_spans_chunks_is_not_sent(serve) -> None:
    async with serve(["one two three four"]) as served:
        chunks = await streamed(served, stop=["o three"])
    assert joined(chunks, 0)["text"] == "one tw"
    assert chunks[-1]["choices"][0]["stop_reason"] == "o three"


def test_every_log_probability_is_a_number() -> None:
    """JSON has no infinity."""
    never = float("-inf")
    entry = TokenLogprob("x", 1, never, (("y", -0.1), ("x", never)), top_ids=(2, 1))
    position = (RankedToken(1, "x", never, 9), RankedToken(2, "y", -0.1, 1))
    shown = [
        logprobs.chat_logprobs([entry], 2, as_ids=False),
        logprobs.completion_logprobs(logprobs.generated_tokens([entry], 2, as_ids=False), 0),
        logprobs.completion_logprobs(logprobs.prompt_tokens(("a", 0), ((), position), 1, as_ids=False), 0),
        logprobs.prompt_logprobs(((), position), 1),
    ]
    assert json.dumps(shown, allow_nan=False).count("-9999.0") == 7


def test_of_two_alternatives_with_one_text_the_more_probable_is_kept() -> None:
    """The sampled token comes first. Several tokens that are parts of characters have the same empty text."""
    entry = TokenLogprob("", 1, -0.5, (("", -0.5), ("", -3.0)), top_ids=(1, 2))
    [token] = logprobs.generated_tokens([entry], 2, as_ids=False)
    assert token.top == {"": -0.5}
