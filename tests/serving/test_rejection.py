"""Speculative rejection over HTTP: what it costs, what it tells, and what it refuses."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from app.engine.scripted import Script
from tests.thinkers import MARKS

pytestmark = pytest.mark.anyio

PONDER = {"strategy": "best_of_n", "answer": "math", "n": 8, "reject": 0.5, "wave_tokens": 4}


def writes(*answers: str) -> Script:
    """A model that writes one of these answers from the first word on, whatever part of it was said before."""

    def script(prompt: str, number: int) -> str:
        said = prompt.rpartition("assistant:")[2]
        rests = [one[len(said) :] for one in answers if said and one.startswith(said)]
        return rests[0] if rests else answers[number % len(answers)]

    return script


def answer(number: int, length: int = 20) -> str:
    """An answer of so many words. The scripted engine's longer words are less probable, so a low number is likely."""
    return "".join(f" {'x' * (1 + number)}{word}" for word in range(100, 99 + length)) + f" {40 + number}"


EIGHT = [answer(number) for number in (5, 3, 7, 2, 6, 4, 1, 0)]


async def ask(served, ponder: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    reply = await served.chat(ponder={**PONDER, **(ponder or {})}, **fields)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_the_worst_half_ends_after_each_wave(serve) -> None:
    """Eight answers cost as many tokens as three: 8, 4 and 2 waves of 4 tokens, and the last 8 of one answer, all counted."""
    async with serve(writes(*EIGHT)) as served:
        body = await ask(served)
        trace = (await served.client.get(f"/v1/traces/{body['ponder']['trace_id']}")).json()
        whole = await ask(served, {"reject": None, "verifier": "likelihood"})
    assert body["choices"][0]["message"]["content"].strip() == EIGHT[7].strip()
    assert body["choices"][0]["message"] == whole["choices"][0]["message"]
    assert body["usage"]["completion_tokens"] == body["ponder"]["tokens"]["decoded"] == 4 * (8 + 4 + 2) + 8
    assert whole["usage"]["completion_tokens"] == 8 * 20
    assert [node["id"] for node in trace["nodes"] if node["state"] == "pruned"] == [0, 2, 4, 5, 8, 9, 12]
    assert sum(node["tokens"] for node in trace["nodes"]) == body["ponder"]["tokens"]["decoded"]
    assert [one["answer"] for one in body["ponder"]["candidates"]] == ["40"]


async def test_answers_go_on_from_the_prefix_cache(serve) -> None:
    """Whole blocks of the prefix before it; the scripted engine caches no tokens that were only generated."""
    long = [answer(number, 100) for number in range(4)]
    async with serve(writes(*long)) as served:
        body = await ask(served, {"n": 4, "wave_tokens": 32})
        trace = (await served.client.get(f"/v1/traces/{body['ponder']['trace_id']}")).json()
    assert [node["tokens"] for node in trace["nodes"]] == [32] * 6 + [36]
    assert trace["nodes"][-1]["cached_tokens"] == 32


async def test_the_outcome_is_the_same_at_every_speed(serve) -> None:
    """Whichever branch is ready first."""
    outcomes = []
    for seconds_per_token in (0.0, 0.001):
        async with serve(writes(*EIGHT), seconds_per_token=seconds_per_token) as served:
            body = await ask(served, {"separator": "1"}, seed=0)
            trace = (await served.client.get(f"/v1/traces/{body['ponder']['trace_id']}")).json()
        outcomes.append([(one["id"], one["parent"], one["text"], one["state"], one["score"]) for one in trace["nodes"]])
    assert outcomes[0] == outcomes[1]


async def test_a_budget_holds_to_the_token(serve) -> None:
    """At every size, and the answer is the best so far."""
    async with serve(writes(*EIGHT)) as served:
        for tokens in range(1, 70, 3):
            body = await ask(served, {"budget": {"tokens": tokens}})
            assert body["usage"]["completion_tokens"] <= tokens
            assert body["ponder"]["tokens"]["decoded"] == body["usage"]["completion_tokens"]
            assert body["choices"][0]["message"]["content"]


async def test_a_dry_run_tells_what_it_is_expected_to_cost(serve) -> None:
    """64 answers that are rejected by halves cost as much as 16 without."""
    async with serve(writes(*EIGHT)) as served:
        many, few = [
            (await served.chat(ponder={**PONDER, "dry_run": True, **fields}, max_tokens=256)).json()["ponder"]["predicted"]
            for fields in ({"n": 64, "wave_tokens": 32}, {"n": 16, "reject": None})
        ]
    assert many["tokens"] <= few["tokens"]
    assert (many["branches"], few["branches"]) == (127, 16)


async def test_a_stream_tells_how_many_go_on(serve) -> None:
    """One line for each wave, and the answer."""
    async with serve(writes(*EIGHT), seconds_per_token=0.1) as served:
        text = (await served.chat(ponder=PONDER, stream=True)).text
    lines = dict.fromkeys(re.findall(r"Step \d+: \d+ go on", text))
    assert list(lines)[:2] == ["Step 1: 4 go on", "Step 2: 2 go on"]


LOOP = " 7" + " So it is 7." * 400


@pytest.mark.parametrize(
    ("fields", "ends"),
    [({}, True), ({"repetition_detection": {"max_pattern_size": 0}}, False), ({"kind": "open"}, False)],
)
async def test_a_loop_is_ended_in_whatever_wave_it_is_found(serve, *, fields: dict[str, Any], ends: bool) -> None:
    """Unless the request says itself what a loop is, or repeated text may be what is asked for."""
    kind = fields.pop("kind", "math")
    story = [answer(4, 200), answer(5, 200)]
    async with serve(writes(LOOP, *story, *story, *story)) as served:
        body = await ask(served, {"n": 7, "reject": 0.15, "wave_tokens": 30, "answer": kind}, max_tokens=250, **fields)
        trace = (await served.client.get(f"/v1/traces/{body['ponder']['trace_id']}")).json()
    assert ("repetition" in {node["finish_reason"] for node in trace["nodes"]}) == ends
    assert body["choices"][0]["message"]["content"].strip().endswith("44")


@pytest.mark.parametrize(
    ("ponder", "fields", "parameter"),
    [
        ({"verifier": "majority"}, {}, "ponder.verifier"),
        ({"verifier": {"number": 42}}, {}, "ponder.verifier"),
        ({"verifier": {"regex": "4."}}, {}, "ponder.verifier"),
        ({}, {"stop": ["."]}, "ponder.reject"),
        ({}, {"min_tokens": 3}, "ponder.reject"),
        ({}, {"frequency_penalty": 0.5}, "ponder.reject"),
        ({}, {"response_format": {"type": "json_object"}}, "ponder.reject"),
        ({"reject": 1}, {}, "ponder.reject"),
        ({"reject": 0}, {}, "ponder.reject"),
        ({"reject": "half"}, {}, "ponder.reject"),
        ({"wave_tokens": 0}, {}, "ponder.wave_tokens"),
        ({"separator": ""}, {}, "ponder.separator"),
    ],
)
async def test_what_cannot_be_honoured_is_refused(serve, ponder: dict, fields: dict, parameter: str) -> None:
    """Before anything is generated, with the field."""
    async with serve(writes(*EIGHT)) as served:
        reply = await served.chat(ponder={**PONDER, **ponder}, **fields)
        assert served.engine.branches == []
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, parameter)


def thinks(*replies: str) -> Callable[[str, int], str]:
    """The same for a model whose prompt has opened its thinking; where the server has ended it, it goes on with an answer."""
    start, end = MARKS

    def script(prompt: str, number: int) -> str:
        said = prompt.rpartition(start)[2]
        rests = [one[len(said) :] for one in replies if one.startswith(said)]
        if end in said and not rests:
            return replies[0].partition(end)[2][len(said.partition(end)[2]) :]
        return (rests[number % len(rests)] if not said else rests[0]) if rests else " 42"

    return script


async def test_thoughts_are_judged_until_there_is_an_answer(serve) -> None:
    """Equations refute the first two in their thinking; a slip that is mended before the answer does not count behind it."""
    false = " Well, 40 + 2 = 43.\n So it is 43, and I go on and on. </think> It is 43."
    true = " Well, 40 + 2 = 42.\n So it is 42, and I go on and on. </think> It is 42."
    mended = " 4 + 4 = 9. </think> 4 + 4 = 8.\n It is 8."
    async with serve(thinks(false, false, true, true), thinking=MARKS) as served:
        body = await ask(served, {"n": 4, "verifier": "equations", "separator": "\n", "wave_tokens": 32})
        trace = (await served.client.get(f"/v1/traces/{body['ponder']['trace_id']}")).json()
    assert body["choices"][0]["message"]["content"].strip() == "It is 42."
    assert [(node["state"], node["parent"]) for node in trace["nodes"] if "43" in node["text"]] == [("pruned", None)] * 2
    async with serve(thinks(mended, false), thinking=MARKS) as served:
        body = await ask(served, {"n": 2, "verifier": "equations", "wave_tokens": 16})
    assert body["choices"][0]["message"]["content"].strip().endswith("It is 8.")
    assert body["ponder"]["candidates"][0]["score"] > 0.5


async def test_a_budget_for_thinking_holds_over_all_waves(serve) -> None:
    """The server ends a thinking in the wave in which its budget is used up."""
    thought = " one two three four five six seven eight nine ten </think> It is 42."
    async with serve(thinks(thought), thinking=MARKS) as served:
        body = await ask(served, {"n": 4, "budget": {"thinking_tokens": 6}})
    message = body["choices"][0]["message"]
    assert (message["reasoning"].split(), message["content"].strip()) == (thought.split()[:6], "It is 42.")
    assert body["ponder"]["candidates"][0]["thinking_cut"]


async def test_where_no_reply_ends_its_thinking_there_is_no_answer(serve) -> None:
    """The caller sees the thoughts of one that was not rejected."""
    async with serve(thinks(*(" a" * number + " b" * 90 for number in range(1, 5))), thinking=MARKS) as served:
        body = await ask(served, {"n": 4}, max_tokens=30)
    assert body["choices"][0]["message"]["content"] is None
    assert len(body["choices"][0]["message"]["reasoning"].split()) == 30
