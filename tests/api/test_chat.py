"""Chat completions over the scripted engine: what the reply contains, whole and streamed, for every way to choose a strategy."""

import json
from typing import Any

import pytest

from tests.thinkers import UNTOUCHED

pytestmark = pytest.mark.anyio


def events(text: str) -> list[dict[str, Any]]:
    """The JSON payloads of a stream, which must end with [DONE]."""
    payloads = [line.removeprefix("data: ") for line in text.split("\n\n") if line.startswith("data: ")]
    assert payloads[-1] == "[DONE]"
    return [json.loads(payload) for payload in payloads[:-1]]


def content(chunks: list[dict[str, Any]], index: int = 0) -> str:
    """The visible text of one choice."""
    return "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"] if choice["index"] == index
    )


async def test_a_direct_answer_has_openais_shape(serve) -> None:
    """The reply has the message, the finish reason, `usage`, and the `ponder` object with the cost."""
    async with serve(["It is 42."]) as served:
        response = await served.chat(ponder={"strategy": "direct"})
    reply = response.json()
    assert response.status_code == 200
    assert reply["object"] == "chat.completion"
    assert reply["choices"][0]["message"] == {"role": "assistant", "content": "It is 42.", "refusal": None}
    assert reply["choices"][0]["finish_reason"] == "stop"
    assert reply["usage"]["completion_tokens"] == 3
    details = {"reasoning_tokens": 0, "thinking_tokens": 0, "other_branch_tokens": 0}
    assert reply["usage"]["completion_tokens_details"] == details
    assert reply["ponder"]["strategy"] == "direct"
    assert reply["ponder"]["flops"]["total"] > 0
    assert response.headers["x-ponder-strategy"] == "direct"
    assert int(response.headers["x-ponder-flops"]) == reply["ponder"]["flops"]["total"]


async def test_auto_compares_answers_where_it_can_and_answers_chat_directly(serve) -> None:
    """Without a policy, the general estimator plans arithmetic; small talk gets one sample. The reply gives the reason."""
    async with serve() as served:
        sum_reply = (await served.chat("What is 17 + 25?")).json()["ponder"]
        talk_reply = (await served.chat("Tell me about your day.")).json()["ponder"]
    assert (sum_reply["strategy"], sum_reply["answer_kind"]) == ("adaptive", "math")
    assert sum_reply["difficulty"]["estimator"] == "general"
    assert all(0 < sum_reply["difficulty"][moment] < 1 for moment in ("before", "first_tokens", "after"))
    assert "(general)" in sum_reply["plan"]["why"]
    assert not sum_reply["plan"]["calibrated"]
    assert (talk_reply["strategy"], talk_reply["answer_kind"]) == ("direct", "open")


@pytest.mark.parametrize("way", ["body", "header", "model", "path"])
async def test_each_way_of_naming_a_strategy_works(serve, way: str) -> None:
    """The body, the header, the model's name and the path choose the same strategy."""
    body: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "Hi?"}]}
    path, headers = "/v1/chat/completions", {}
    if way == "body":
        body["ponder"] = {"strategy": "best_of_n"}
    elif way == "header":
        headers = {"X-Ponder-Strategy": "best_of_n"}
    elif way == "model":
        body["model"] = "scripted@best_of_n"
    else:
        path = "/v1/best_of_n/chat/completions"
    async with serve() as served:
        reply = (await served.client.post(path, json=body, headers=headers)).json()
    assert reply["ponder"]["strategy"] == "best_of_n"
    assert reply["model"] == "scripted"


async def test_the_body_wins_over_header_model_and_path(serve) -> None:
    """The order in which they apply is the documented one."""
    body = {"model": "scripted@self_consistency", "messages": [{"role": "user", "content": "1 + 1?"}]}
    path = "/v1/self_consistency/chat/completions"
    async with serve() as served:
        with_body = await served.client.post(
            path, json={**body, "ponder": {"strategy": "direct"}}, headers={"X-Ponder-Strategy": "best_of_n"}
        )
        with_header = await served.client.post(path, json=body, headers={"X-Ponder-Strategy": "best_of_n"})
    assert with_body.json()["ponder"]["strategy"] == "direct"
    assert with_header.json()["ponder"]["strategy"] == "best_of_n"


async def test_usage_counts_every_token_of_every_branch(serve) -> None:
    """Tokens that are not in the visible answer are reasoning tokens, and the kinds of the meter add up."""
    async with serve(["one two three", "one two"]) as served:
        reply = (await served.chat("Hi", ponder={"strategy": "best_of_n", "n": 4})).json()
    usage, ponder = reply["usage"], reply["ponder"]
    assert usage["completion_tokens"] == ponder["tokens"]["decoded"] == 10
    visible = len(reply["choices"][0]["message"]["content"].split())
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 10 - visible
    assert ponder["branches"] == {"drawn": 4, "cancelled": 0, **UNTOUCHED}
    assert len(ponder["candidates"]) == 4


async def test_n_returns_the_best_distinct_candidates_in_order(serve) -> None:
    """With three votes for 42 and one for 41 both are returned, the majority's answer first."""
    async with serve(["42", "41", "so 42", "is 42"]) as served:
        reply = (await served.chat("6 * 7 = ?", n=2, ponder={"strategy": "best_of_n", "n": 4})).json()
    assert [choice["index"] for choice in reply["choices"]] == [0, 1]
    assert "42" in reply["choices"][0]["message"]["content"]
    assert reply["choices"][1]["message"]["content"] == "41"


async def test_a_vote_on_json_compares_what_is_parsed(serve) -> None:
    """The order of keys and white space do not split the vote."""
    replies = ['{"a": 1, "b": 2}', '{"b":2,"a":1}', '{"a": 2}', '{"b": 2.0, "a": 1.0}']
    async with serve(replies) as served:
        response = await served.chat(
            "Give me a and b.",
            response_format={"type": "json_object"},
            ponder={"strategy": "self_consistency", "n": 4, "confidence": 1},
        )
    reply = response.json()
    assert json.loads(reply["choices"][0]["message"]["content"]) == {"a": 1, "b": 2}
    assert reply["ponder"]["candidates"][0]["score"] == pytest.approx(3 / 4)
    assert reply["ponder"]["stop_reason"] == "completed"


async def test_a_vote_on_tool_calls_compares_name_and_arguments(serve) -> None:
    """The winning call is returned parsed, also in a stream."""
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    call = '<tool_call>{"name": "weather", "arguments": {"city": "%s"}}</tool_call>'
    replies = [call % "Rome", call % "Oslo", call % "Rome", call % "Rome"]
    ask = {"tools": tools, "ponder": {"strategy": "self_consistency", "n": 4}}
    async with serve(replies) as served:
        whole = (await served.chat("Weather in Rome?", **ask)).json()["choices"][0]
        streamed = events((await served.chat("Weather in Rome?", stream=True, **ask)).text)
    assert whole["finish_reason"] == "tool_calls"
    assert json.loads(whole["message"]["tool_calls"][0]["function"]["arguments"]) == {"city": "Rome"}
    calls = [d for c in streamed for choice in c["choices"] for d in choice["delta"].get("tool_calls", [])]
    assert json.loads(calls[0]["function"]["arguments"]) == {"city": "Rome"}
    assert streamed[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_direct_stream_begins_with_the_role_and_ends_with_the_ponder_object(serve) -> None:
    """The role comes with the first word, the cost with the finish reason, and `usage` in a chunk of its own."""
    async with serve(["one two three"]) as served:
        response = await served.chat("Hi", stream=True, stream_options={"include_usage": True})
    chunks = events(response.text)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert len([c for c in chunks if c["choices"] and c["choices"][0]["delta"].get("content")]) == 3
    assert content(chunks) == "one two three"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 3
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-2]["ponder"]["strategy"] == "direct"
    assert len({chunk["id"] for chunk in chunks}) == 1


async def test_every_chunk_has_a_choice_unless_usage_is_wanted(serve) -> None:
    """OpenAI promises it, and readers rely on `chunk.choices[0]`."""
    for ponder in ({"strategy": "direct"}, {"strategy": "best_of_n", "n": 2, "verifier": "likelihood"}):
        async with serve(["one two three"]) as served:
            chunks = events((await served.chat("Hi", stream=True, ponder=ponder)).text)
        assert all(len(chunk["choices"]) == 1 for chunk in chunks)
        assert all("usage" not in chunk for chunk in chunks)
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
        assert chunks[-1]["ponder"]["strategy"] == ponder["strategy"]


async def test_usage_grows_with_each_chunk_on_request(serve) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    async with serve(["one two three"]) as served:
        chunks = events((await served.chat("Hi", stream=True, stream_options=options)).text)
    tokens = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert tokens == sorted(tokens)
    assert (tokens[0], tokens[-1]) == (1, 3)


async def test_a_choice_that_is_opened_is_ended(serve) -> None:
    """Each choice has a role first and one finish reason, also where a strategy returns fewer choices than were asked for."""
    for ponder in ({"strategy": "direct"}, {"strategy": "self_consistency", "n": 4}):
        async with serve(["#### 2"]) as served:
            chunks = events((await served.chat("What is 1 + 1?", stream=True, n=2, ponder=ponder)).text)
        choices = [chunk["choices"][0] for chunk in chunks]
        opened = {one["index"] for one in choices if one["delta"].get("role")}
        ended = [one["index"] for one in choices if one["finish_reason"]]
        assert sorted(ended) == sorted(opened) == list(range(len(opened)))


@pytest.mark.parametrize("form", ["reasoning", "comments", "none"])
async def test_the_caller_chooses_how_progress_is_told(serve, form: str) -> None:
    async with serve(["#### 2"]) as served:
        ponder = {"strategy": "self_consistency", "n": 4, "progress": form}
        text = (await served.chat("What is 1 + 1?", stream=True, ponder=ponder)).text
    assert any(chunk["choices"][0]["delta"].get("reasoning") for chunk in events(text)) == (form == "reasoning")
    assert any(line.startswith(": ") and "keep-alive" not in line for line in text.splitlines()) == (form == "comments")


async def test_a_stream_carries_usage_only_on_request(serve) -> None:
    """`stream_options.include_usage` decides."""
    async with serve() as served:
        chunks = events((await served.chat("Hi", stream=True)).text)
    assert not any("usage" in chunk for chunk in chunks)


async def test_a_search_streams_its_progress_as_reasoning_and_then_the_winner(serve) -> None:
    """Each line has the number of the candidate, its answer and the leader. The text of the winner follows."""
    async with serve() as served:
        chunks = events((await served.chat(stream=True, ponder={"strategy": "self_consistency", "n": 8})).text)
    thoughts = "".join(choice["delta"].get("reasoning", "") for chunk in chunks for choice in chunk["choices"])
    assert "Candidate 1 of 8: 42 (leading: 42, 1 of 1)" in thoughts
    assert "42" in content(chunks)
    first_content = next(i for i, c in enumerate(chunks) if c["choices"] and c["choices"][0]["delta"].get("content"))
    last_thought = max(i for i, c in enumerate(chunks) if c["choices"] and "reasoning" in c["choices"][0]["delta"])
    assert last_thought < first_content


async def test_silence_in_a_stream_is_filled_with_comments(serve) -> None:
    """A proxy must not close the connection while candidates are generated."""
    async with serve(["slow words here"], seconds_per_token=0.05, keep_alive_seconds=0.02) as served:
        text = (await served.chat(stream=True, ponder={"strategy": "best_of_n", "n": 2})).text
    assert ": keep-alive\n\n" in text


async def test_log_probabilities_are_shown_as_requested(serve) -> None:
    """There is one entry for each token with the requested number of alternatives, whatever the verifier needs."""
    async with serve(["one two"]) as served:
        direct = (await served.chat("Hi", logprobs=True, top_logprobs=2)).json()["choices"][0]["logprobs"]
        best = (
            await served.chat(
                "Hi",
                logprobs=True,
                top_logprobs=3,
                ponder={"strategy": "best_of_n", "verifier": "self_certainty", "n": 2},
            )
        ).json()["choices"][0]["logprobs"]
    assert [entry["token"] for entry in direct["content"]] == ["one", " two"]
    assert len(direct["content"][0]["top_logprobs"]) == 2
    assert len(best["content"][0]["top_logprobs"]) == 3


async def test_stop_strings_and_limits_end_an_answer(serve) -> None:
    """`stop` and `max_tokens` reach the engine, and the finish reason says which of them applied."""
    async with serve(["one two three four"]) as served:
        stopped = (await served.chat("Hi", stop=" three")).json()["choices"][0]
        cut = (await served.chat("Hi", max_completion_tokens=2)).json()["choices"][0]
    assert (stopped["message"]["content"], stopped["finish_reason"]) == ("one two", "stop")
    assert (cut["message"]["content"], cut["finish_reason"]) == ("one two", "length")


async def test_each_sample_has_its_own_seed(serve) -> None:
    """Candidate i has the seed s + i, so that the same request twice gives the same answers."""
    async with serve() as served:
        for _ in range(2):
            await served.chat(seed=7, ponder={"strategy": "best_of_n", "n": 3})
    assert [branch.seed for branch in served.engine.branches] == [7, 8, 9, 7, 8, 9]


async def test_keys_do_not_share_a_prefix_cache(serve) -> None:
    """All branches of one key have the same cache salt, and another key has another salt."""
    async with serve(api_keys=("alice", "bob")) as served:
        for key in ("alice", "bob", "alice"):
            body = {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]}
            await served.client.post("/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"})
    salts = [branch.cache_salt for branch in served.engine.branches]
    assert salts[0] == salts[2] != salts[1]
    assert "alice" not in salts[0]


@pytest.mark.parametrize(("limits", "n"), [({"max_n": 2}, 4), ({"max_n": 1}, 2), ({"max_branches_per_key": 1}, 2)])
async def test_a_plan_that_the_caller_did_not_choose_fits_the_limits_of_the_server(serve, limits, n) -> None:
    """One that is named is refused where it does not fit, and so are more prompts than branches."""
    async with serve(**limits) as served:
        reply = await served.chat("What is 17 * 25?")
        named = await served.chat("What is 17 * 25?", ponder={"strategy": "adaptive", "n": 8})
        calls = {"model": "scripted", "prompt": ["2 + 2 =", "3 + 3 ="], "ponder": {"answer": "math"}}
        two = await served.client.post("/v1/completions", json=calls)
    plan = reply.json()["ponder"]["plan"]
    assert plan["parameters"]["n"] == n
    assert f"n = {n}, since this server runs no more branches at once" in plan["why"]
    assert named.status_code == 400
    assert two.status_code == (400 if "max_branches_per_key" in limits else 200)
