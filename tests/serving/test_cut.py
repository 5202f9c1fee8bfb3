"""Branches that are cut while they run: halted in the engine, told, and counted to the token."""

import re
from collections.abc import Sequence
from typing import Any

import pytest

from strategies.core.values import Step, TokenLogprob
from tests.metering.test_meter import draw, metered_model

pytestmark = pytest.mark.anyio

SURE, OTHER = " considerable" * 10 + " answer 42", " considerable" * 10 + " answer 41"
"""The scripted engine's longer words are less probable, and so are their alternatives: the confidence of a word is its length."""
UNSURE = " considerable" * 10 + " a" * 200 + " so 7"
PONDER = {"answer": "math", "n": 6, "cut": 0.5, "warm_up": 2, "group_tokens": 4}


async def ask(served, **ponder: Any) -> dict[str, Any]:
    reply = await served.chat(ponder={"strategy": "self_consistency", "confidence": 1.0, **PONDER, **ponder}, max_tokens=400)
    assert reply.status_code == 200, reply.text
    return reply.json()


@pytest.mark.parametrize("seconds_per_token", [0.0, 0.001])
async def test_a_cut_answer_takes_few_tokens_and_has_no_vote(serve, seconds_per_token: float) -> None:
    """Two answers warm up; three of the other four are unsure, and end behind the words at which they become so."""
    async with serve([SURE, OTHER, UNSURE, UNSURE, SURE, UNSURE], seconds_per_token=seconds_per_token) as served:
        body = await ask(served)
        trace = (await served.client.get(f"/v1/traces/{body['ponder']['trace_id']}")).json()
    candidates = body["ponder"]["candidates"]
    assert [one["finish_reason"] for one in candidates] == ["stop", "stop", "cut", "cut", "stop", "cut"]
    assert [one["answer"] for one in candidates] == ["42", "41", None, None, "42", None]
    assert all(12 <= one["tokens"] < 30 for one in candidates)
    assert body["usage"]["completion_tokens"] == sum(one["tokens"] for one in candidates) == body["ponder"]["tokens"]["decoded"]
    states = {node["finish_reason"]: node["state"] for node in trace["nodes"] if node["state"] != "chosen"}
    assert states == {"stop": "final", "cut": "pruned"}
    assert body["choices"][0]["finish_reason"] == "stop"


async def test_the_outcome_is_the_same_at_every_speed(serve) -> None:
    """Also where an answer has ended before its cut could reach the engine: votes depend on tokens alone."""
    late = " considerable" * 10 + " a a a a 7"
    outcomes = []
    for seconds_per_token in (0.0, 0.001):
        async with serve([SURE, OTHER, late, SURE, UNSURE, late], seconds_per_token=seconds_per_token) as served:
            body = await ask(served, keep=0.5, weights="tail")
        outcomes.append([(one["answer"], one["finish_reason"], one["score"]) for one in body["ponder"]["candidates"]])
    assert outcomes[0] == outcomes[1]
    assert [finish for _, finish, _ in outcomes[0]] == ["stop", "stop", "cut", "stop", "cut", "cut"]


async def test_a_budget_holds_to_the_token(serve) -> None:
    """With a cut as without it."""
    async with serve([SURE, OTHER, UNSURE, UNSURE, SURE, UNSURE]) as served:
        body = await ask(served, budget={"tokens": 60})
    assert body["usage"]["completion_tokens"] <= 60
    assert body["ponder"]["tokens"]["decoded"] == sum(one["tokens"] for one in body["ponder"]["candidates"])


async def test_a_thought_is_cut_across_the_end_of_its_budget(serve) -> None:
    """The tokens that the server writes have no confidence; no leg begins behind a cut."""
    sure, unsure = " considerable" * 12, " considerable" * 4 + " a" * 100
    thoughts = iter([sure, sure, unsure, unsure, sure, unsure])
    answers = iter([" considerable answer 42", " considerable answer 41", " considerable answer 42"])

    def script(prompt: str, _number: int) -> str:
        return next(answers if prompt.endswith("</think>") else thoughts)

    async with serve(script, thinking=("<think>", "</think>")) as served:
        body = await ask(served, budget={"thinking_tokens": 8}, group_tokens=4)
        legs = len(served.engine.branches)
    candidates = body["ponder"]["candidates"]
    assert [one["finish_reason"] for one in candidates] == ["stop", "stop", "cut", "cut", "stop", "cut"]
    assert legs == 2 * 3 + 3  # the cut ones have no second leg
    assert body["choices"][0]["message"]["content"].strip().endswith("42")


async def test_a_watch_of_a_step_is_given_each_token_once() -> None:
    """A watch of its own for each branch, with and without a stream of deltas; the candidate says that it is cut."""
    seen: list[list[str]] = []

    def watch():
        mine: list[str] = []
        seen.append(mine)

        def is_over(tokens: Sequence[TokenLogprob]) -> bool:
            mine.extend(token.token for token in tokens)
            return len(mine) >= 3

        return is_over

    async with metered_model(" a b c d e f g h", has_deltas=False) as (model, _meter, _engine, prefix):
        drawn = await draw(model, prefix, 2, num_logprobs=1, step=Step(watch=watch))
    assert [one.finish_reason for one in drawn] == ["cut", "cut"]
    assert all(mine[:3] == [" a", " b", " c"] for mine in seen)
    assert all(3 <= len(one.token_ids) < 8 for one in drawn)
    assert re.fullmatch(r" a b c.*", drawn[0].text)
