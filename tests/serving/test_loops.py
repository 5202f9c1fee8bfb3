"""A branch that loops: it is ended, told, counted, and has no vote."""

from typing import Any

import pytest

pytestmark = pytest.mark.anyio

LOOP = "It is 7." + " So it is 7." * 400
LOOP_TOKENS = 3 + 4 * 16 + 3
"""The first sentence and four rounds of 16 tokens; a round may begin anywhere in the sentence of 4 tokens."""


async def ask(served, strategy: str, **ponder: Any) -> dict[str, Any]:
    body = {key: ponder.pop(key) for key in ("repetition_detection", "max_tokens") if key in ponder}
    reply = await served.chat(ponder={"strategy": strategy, "answer": "math", **ponder}, **body)
    assert reply.status_code == 200, reply.text
    return reply.json()


@pytest.mark.parametrize("strategy", ["self_consistency", "best_of_n", "adaptive", "backtracking"])
async def test_a_loop_has_no_vote(serve, strategy: str) -> None:
    """Two of three answers loop over 7; the third is the answer, and every token of the loops is counted."""
    async with serve([LOOP, LOOP, "It is 42."]) as served:
        body = await ask(served, strategy, n=3)
    assert body["choices"][0]["message"]["content"] == "It is 42."
    loops = [one for one in body["ponder"]["candidates"] if one["finish_reason"] == "repetition"]
    assert len(loops) == 2
    assert {one["answer"] for one in loops} <= ({None, "7"} if strategy == "best_of_n" else {None})
    assert all(one["tokens"] <= LOOP_TOKENS for one in loops)
    assert body["usage"]["completion_tokens"] == sum(one["tokens"] for one in body["ponder"]["candidates"])


async def test_where_all_loop_the_reply_is_a_cut_one(serve) -> None:
    """Something is answered; OpenAI has no finish reason for it."""
    async with serve([LOOP]) as served:
        body = await ask(served, "self_consistency", n=2)
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["choices"][0]["message"]["content"].startswith("It is 7.")


async def test_nothing_changes_for_direct(serve) -> None:
    """It ends at the limit of the answer."""
    async with serve([LOOP]) as served:
        body = await ask(served, "direct", max_tokens=200)
        served.engine.branches.clear()
        await ask(served, "self_consistency", n=1)
        assert [branch.repetition is None for branch in served.engine.branches] == [False]
    assert body["usage"]["completion_tokens"] == 200


@pytest.mark.parametrize("kind", ["json", "open"])
async def test_long_lists_and_repeated_text_may_be_what_is_asked_for(serve, kind: str) -> None:
    """In JSON, and where answers are not compared."""
    async with serve([LOOP]) as served:
        body = await ask(served, "best_of_n", n=1, answer=kind, verifier="likelihood", max_tokens=200)
    assert body["usage"]["completion_tokens"] == 200


async def test_a_request_says_itself_what_a_loop_is(serve) -> None:
    """By the field of vLLM, which also switches it off."""
    async with serve([LOOP]) as served:
        off = await ask(served, "self_consistency", n=1, max_tokens=200, repetition_detection={"max_pattern_size": 0})
        early = {"max_pattern_size": 8, "min_count": 2}
        on = await ask(served, "direct", max_tokens=200, repetition_detection=early)
    assert off["usage"]["completion_tokens"] == 200
    assert on["usage"]["completion_tokens"] < 20
    assert on["ponder"]["candidates"][0]["finish_reason"] == "repetition"


async def test_a_thought_that_loops_is_ended_inside_its_thinking(serve) -> None:
    """It has no answer, whatever the thought says."""
    async with serve([" Hm." * 400, " Two and two. </think> 4"], thinking=("<think>", "</think>")) as served:
        body = await ask(served, "self_consistency", n=2)
    assert body["choices"][0]["message"]["content"].strip() == "4"
    assert [one["finish_reason"] for one in body["ponder"]["candidates"]] == ["repetition", "stop"]
