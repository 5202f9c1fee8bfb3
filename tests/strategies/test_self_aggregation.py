"""Recursive self-aggregation: who sees whom, what an answer is written with, and which answers are chosen from."""

import asyncio
import math
import random
from dataclasses import replace
from typing import Any

import pytest

from strategies.core.ports import ignore_events
from strategies.core.results import NodeState, Result, TraceNode
from strategies.core.turns import AGAIN
from strategies.core.values import AnswerKind, ScoredCandidate, StopReason
from strategies.self_aggregation import SelfAggregation, SelfAggregationParams
from tests.thinkers import MARKS

pytestmark = pytest.mark.anyio

RSA: dict[str, Any] = {"strategy": "self_aggregation", "answer": "math", "prompt": "Now aggregate.", "confidence": 1}
"""It writes all populations, also where one agrees."""


def aggregation(context, **params: object) -> SelfAggregation:
    return SelfAggregation(
        SelfAggregationParams.model_validate({"prompt": "Now aggregate.", "confidence": 1, **params}), context
    )


def numbered(prompt: str, number: int) -> str:
    """A model whose answers are all different, and say in which round they are."""
    num_seen = prompt.count("It is")
    return f" It is {100 * (num_seen > 0) + number}."


async def ask(served, **fields: Any) -> dict[str, Any]:
    reply = await served.chat(ponder={**RSA, **fields.pop("ponder", {})}, **fields)
    assert reply.status_code == 200, reply.text
    assert not served.engine.live
    return reply.json()


async def nodes(served, body: dict[str, Any]) -> list[dict[str, Any]]:
    return (await served.client.get(f"/v1/traces/{body['ponder']['trace_id']}")).json()["nodes"]


def prompts(served) -> list[str]:
    """What each answer behind the first population continued."""
    texts = [served.engine.decode(branch.prefix) for branch in served.engine.branches]
    return [text for text in texts if "aggregate" in text]


async def test_the_golden_run(grow, question, context) -> None:
    """Two answers of two populations, the whole result written by hand: with this seed both see the second one."""
    words = {"": ["so 41", "so 42"], "so 42\nuser: Now aggregate.\nassistant:": ["so 42"]}
    result = await aggregation(context, n=2, in_view=1, rounds=2)(question(seed=5), grow(words), ignore_events)
    first, second, third, fourth = [one.candidate for one in result.candidates]
    assert [one.index for one in (first, second, third, fourth)] == [0, 1, 2, 3]
    score = pytest.approx((2 + math.exp(-0.2)) / 3)
    scored = (
        ScoredCandidate(first, "41"),
        ScoredCandidate(second, "42"),
        ScoredCandidate(third, "42", score),
        ScoredCandidate(fourth, "42", score),
    )

    def node(index: int, text: str, answer: str, seen: tuple[int, ...] = (), **fields: Any) -> TraceNode:
        fields = {"state": NodeState.FINAL, **fields}
        return TraceNode(
            id=index, parent=next(iter(seen), None), in_view=seen, text=text, tokens=2, answer=answer, finish_reason="stop", **fields
        )  # fmt: skip

    expected = (
        node(0, "so 41", "41"),
        node(1, "so 42", "42"),
        node(2, "so 42", "42", (1,), score=score, value=score, state=NodeState.CHOSEN),
        node(3, "so 42", "42", (1,), score=score, value=score),
    )
    assert result == Result((scored[2],), scored, StopReason.COMPLETED, expected)


async def test_each_new_answer_is_written_with_answers_of_the_last_population_in_view(serve) -> None:
    """They stand as turns of the conversation, and the trace tells which they are: the last of them is the parent."""
    async with serve(numbered) as served:
        body = await ask(served, ponder={"n": 4, "in_view": 2, "rounds": 3}, seed=5)
        trace = await nodes(served, body)
        seen = prompts(served)
    assert [node["in_view"] for node in trace[:4]] == [[]] * 4
    for number, node in enumerate(trace[4:]):
        population = range(4 * (number // 4), 4 * (number // 4) + 4)
        assert len(set(node["in_view"])) == 2
        assert set(node["in_view"]) <= set(population)
        assert node["parent"] == node["in_view"][-1]
    turns = ["".join(trace[index]["text"] + f"\nuser: {AGAIN}\nassistant:" for index in node["in_view"]) for node in trace[4:]]
    head = "user: What is 17 + 25?\nassistant:"
    assert sorted(seen) == sorted(
        head + turn.removesuffix(f"{AGAIN}\nassistant:") + "Now aggregate.\nassistant:" for turn in turns
    )
    assert body["ponder"]["stop_reason"] == "completed"


async def test_the_last_population_votes(serve) -> None:
    """However many earlier answers say something else; all of them are candidates, and only the last ones have scores."""
    replies = ["It is 42.", "It is 42.", "It is 43."]
    async with serve(lambda prompt, number: f" {replies[number % 3]}" if "aggregate" in prompt else " It is 41.") as served:
        body = await ask(served, ponder={"n": 3, "rounds": 2}, seed=0)
    assert body["choices"][0]["message"]["content"] == " It is 42."
    candidates = body["ponder"]["candidates"]
    assert [one["answer"] for one in candidates] == ["41"] * 3 + ["42", "42", "43"]
    assert [one["score"] is not None for one in candidates] == [False] * 3 + [True] * 3


@pytest.mark.parametrize(
    ("verifier", "chosen"), [(None, " yes"), ("likelihood", " yes"), ({"regex": "certainly"}, " certainly")]
)
async def test_where_answers_cannot_be_compared_a_verifier_chooses(serve, verifier: Any, chosen: str) -> None:
    """By default likelihood, among the last population: the scripted engine is surer of short words."""
    replies = [" certainly", " yes", " perhaps"]
    async with serve(lambda prompt, number: replies[number % 3] if "aggregate" in prompt else " so") as served:
        ponder = {"n": 3, "rounds": 2, "answer": "open", "verifier": verifier}
        body = await ask(served, ponder=ponder, seed=0)
    assert body["choices"][0]["message"]["content"] == chosen


@pytest.mark.parametrize(("confidence", "num_rounds"), [(0.95, 2), (0.97, 3), (1, 3)])
async def test_a_population_that_agrees_is_the_last_one(serve, confidence: float, num_rounds: int) -> None:
    """Four equal answers have the posterior 0.969 that 42 stays the leader; with the first population nothing is settled."""
    async with serve(lambda prompt, number: " It is 42." if "aggregate" in prompt else f" It is {number}.") as served:
        body = await ask(served, ponder={"n": 4, "confidence": confidence})
    assert len(body["ponder"]["candidates"]) == 4 * num_rounds
    assert body["ponder"]["stop_reason"] == ("settled" if num_rounds < 3 else "completed")
    assert body["choices"][0]["message"]["content"] == " It is 42."


async def test_answers_that_cannot_be_compared_settle_nothing(serve) -> None:
    """Even the same text four times."""
    async with serve(lambda _prompt, _number: " yes") as served:
        body = await ask(served, ponder={"answer": "open", "confidence": 0.6})
    assert len(body["ponder"]["candidates"]) == 12


async def test_a_proof_ends_it(serve) -> None:
    """An exact verifier scores every population as it comes."""
    async with serve(numbered) as served:
        body = await ask(served, ponder={"n": 2, "rounds": 9, "verifier": {"regex": "10[0-9]"}}, seed=0)
    assert body["ponder"]["stop_reason"] == "verified"
    assert len(body["ponder"]["candidates"]) == 4


async def test_the_same_seed_sees_the_same_however_fast_answers_are(serve) -> None:
    """Who sees whom is drawn in the order of positions from the seed of the request."""
    views = []
    for seed, speed, slots in ((3, 0.0, 64), (3, 0.001, 2), (4, 0.0, 64)):
        async with serve(numbered, seconds_per_token=speed, max_branches=slots) as served:
            body = await ask(served, ponder={"n": 6, "rounds": 3}, seed=seed)
            views.append([(node["in_view"], node["text"]) for node in await nodes(served, body)])
    assert views[0] == views[1] != views[2]


async def test_order_of_completion_changes_nothing(grow, question, context) -> None:
    """Also where answers of one population end in any order."""

    def script(said: str, position: int) -> str:
        return f" so {len(said) % 7 + position}"

    strategy = aggregation(context, n=5, in_view=3, rounds=3)
    usual = await strategy(question(seed=2), grow(script), ignore_events)
    for shuffle in range(5):
        assert await strategy(question(seed=2), grow(script, shuffle=random.Random(shuffle)), ignore_events) == usual


async def test_an_answer_that_was_cut_is_not_seen(grow, question, context) -> None:
    """Nobody can tell what it would have said; where no answer of a population is whole, nothing more is written."""
    answers = {0: " so 41", 1: " so 42", 2: " so 43 and more"}
    model = grow(lambda said, position: " so 42" if said else answers[position], tokens=8)
    result = await aggregation(context, n=3, in_view=3, rounds=3)(question(), model, ignore_events)
    assert result.stop_reason is StopReason.TOKENS
    assert result.chosen[0].answer in ("41", "42")


async def test_cut_answers_stay_out_of_view(serve) -> None:
    """The other answers of the population are seen in their place."""
    replies = [" It is 41.", " It is a long story and has no end", " It is 42."]
    async with serve(lambda prompt, number: " It is 42." if "aggregate" in prompt else replies[number % 3]) as served:
        body = await ask(served, ponder={"n": 3, "in_view": 3, "rounds": 2}, max_tokens=5, seed=0)
        trace = await nodes(served, body)
    assert [sorted(node["in_view"]) for node in trace[3:]] == [[0, 2]] * 3


async def test_without_a_whole_answer_nothing_more_is_written(serve) -> None:
    """What there is is returned."""
    async with serve(lambda _prompt, _number: " It is a long story and has no end") as served:
        body = await ask(served, ponder={"n": 3, "rounds": 3}, max_tokens=4)
    assert len(body["ponder"]["candidates"]) == 3
    assert body["choices"][0]["finish_reason"] == "length"


async def test_a_population_that_the_budget_cuts_votes_with_the_one_before(grow, question, context) -> None:
    """Else the first answer of a new population would decide alone."""
    model = grow(lambda said, _position: " so 7" if said else " so 42", tokens=10)
    result = await aggregation(context, n=4, rounds=2)(question(), model, ignore_events)
    assert [one.answer for one in result.candidates] == ["42"] * 4 + ["7"]
    assert (result.chosen[0].answer, result.stop_reason) == ("42", StopReason.TOKENS)


@pytest.mark.parametrize(("room", "num_seen"), [(79, 3), (78, 2), (59, 2), (58, 1), (39, 1), (38, 0)])
async def test_where_the_context_has_little_room_fewer_are_seen(serve, room: int, num_seen: int) -> None:
    """There is always room for another answer as long as the longest; at worst an answer is written from the prompt alone."""
    reply = " It is one of two or three things, and one of them is 42."
    async with serve(lambda _prompt, _number: reply) as served:
        served.engine.card = replace(served.engine.card, max_model_len=room)
        body = await ask(served, ponder={"n": 3, "in_view": 3, "rounds": 2}, max_tokens=14)
        trace = await nodes(served, body)
    assert [len(node["in_view"]) for node in trace[3:]] == [num_seen] * 3
    assert all((node["parent"] is None) == (num_seen == 0) for node in trace[3:])
    assert {node["finish_reason"] for node in trace} == {"stop"}


@pytest.mark.parametrize("opens", [True, False], ids=["opened by the template", "opened by the model"])
async def test_answers_in_view_are_what_follows_their_thinking(serve, opens: bool) -> None:
    """New answers think again."""
    start, end = MARKS

    def script(prompt: str, number: int) -> str:
        thought = f" Perhaps {number}. {end}\n\nIt is 42."
        return thought if opens else f" {start}{thought}"

    async with serve(script, thinking=MARKS, opens_thinking=opens) as served:
        body = await ask(served, ponder={"n": 2, "in_view": 2, "rounds": 2})
        trace = await nodes(served, body)
        seen = prompts(served)
    closed = f" {start}{end}" if opens else ""
    opened = f" {start}" if opens else ""
    turn = "\n\nIt is 42."
    view = f"{closed}{turn}\nuser: {AGAIN}\nassistant:{turn}"
    expected = f"user: What is 17 + 25?\nassistant:{view}\nuser: Now aggregate.\nassistant:{opened}"
    assert seen == [expected] * 2
    assert all("Perhaps" in node["text"] for node in trace)
    assert body["choices"][0]["message"]["content"] == turn
    assert "Perhaps" in body["choices"][0]["message"]["reasoning"]


async def test_a_budget_for_thinking_holds_for_each_answer(serve) -> None:
    """Also for those that are written with others in view."""
    thought = " one two three four five six seven eight"
    async with serve(lambda p, _n: " It is 42." if p.rstrip().endswith(MARKS[1]) else thought, thinking=MARKS) as served:
        body = await ask(served, ponder={"n": 2, "rounds": 2, "budget": {"thinking_tokens": 4}})
    candidates = body["ponder"]["candidates"]
    assert [one["thinking_cut"] for one in candidates] == [True] * 4
    assert [one["answer"] for one in candidates] == ["42"] * 4


async def test_tool_calls_and_json_are_seen_as_they_were_written(serve) -> None:
    """Calls are compared as calls, and a grammar holds for each answer from its first token."""
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    call = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
    async with serve(lambda _prompt, _number: f" {call}") as served:
        body = (await served.chat(tools=tools, ponder={"strategy": "self_aggregation", "n": 2, "rounds": 2})).json()
        texts = [served.engine.decode(branch.prefix) for branch in served.engine.branches]
    assert body["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "add"
    assert sum(text.count(call) == 2 for text in texts) == 2
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    async with serve(lambda prompt, _number: '{"a": 2}' if "aggregate" in prompt else '{"a": 1}') as served:
        body = await ask(served, response_format=schema, ponder={"answer": "json", "n": 2, "rounds": 2})
    assert body["choices"][0]["message"]["content"] == '{"a": 2}'


@pytest.mark.parametrize(
    ("fields", "parameter"),
    [
        ({"n": 5}, "ponder.n"),
        ({"temperature": 0}, "temperature"),
        ({"ponder": {"in_view": 0}}, "ponder.in_view"),
        ({"ponder": {"rounds": 33}}, "ponder.rounds"),
        ({"ponder": {"confidence": 0.5}}, "ponder.confidence"),
        ({"ponder": {"n": 65}}, "ponder.n"),
        ({"ponder": {"verifier": "majority", "answer": "open"}}, "ponder.verifier"),
        ({"ponder": {"prompt": ""}}, "ponder.prompt"),
    ],
)
async def test_what_it_cannot_honour_is_refused(serve, fields: dict[str, Any], parameter: str) -> None:
    """Before anything is generated, naming the field."""
    async with serve(numbered) as served:
        ponder = {**RSA, **fields.pop("ponder", {})}
        reply = await served.chat(ponder=ponder, **fields)
        assert served.engine.branches == []
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, parameter)


async def test_it_samples_at_temperature_1_unless_the_caller_says_otherwise(serve) -> None:
    """As its authors do."""
    async with serve(numbered) as served:
        await ask(served)
        await ask(served, temperature=0.5)
        temperatures = [branch.prompt.request["temperature"] for branch in served.engine.branches]
    assert temperatures == [1.0] * 12 + [0.5] * 12


async def test_a_dry_run_tells_what_it_will_take(serve) -> None:
    """All populations, one after the other; the verifier scores one of them."""
    async with serve(numbered) as served:
        predicted = (await ask(served, ponder={"dry_run": True, "verifier": "tournament"}))["ponder"]["predicted"]
        body = await ask(served)
    assert (predicted["branches"], predicted["rounds"]) == (12, 3)
    assert len(body["ponder"]["candidates"]) == 12


async def test_a_client_that_leaves_ends_all_answers(serve) -> None:
    """In the middle of a later population."""
    async with serve(numbered, seconds_per_token=0.02) as served:
        running = asyncio.create_task(ask(served))
        while len(served.engine.branches) < 6:  # noqa: ASYNC110 - the engine tells nobody
            await asyncio.sleep(0.005)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not served.engine.live
        assert not served.engine.running


async def test_several_choices_are_distinct_answers_of_the_last_population(serve) -> None:
    """Best first."""
    replies = [" It is 42.", " It is 42.", " It is 43."]
    async with serve(lambda prompt, number: replies[number % 3] if "aggregate" in prompt else " It is 41.") as served:
        body = await ask(served, n=2, ponder={"n": 3, "rounds": 2}, seed=0)
    assert [choice["message"]["content"] for choice in body["choices"]] == [" It is 42.", " It is 43."]


async def test_open_questions_are_chosen_from_the_last_population(grow, question, context) -> None:
    """Even where an earlier answer is likelier."""
    model = grow(lambda said, _position: " a longer answer" if said else " a")
    result = await aggregation(context, n=2, rounds=2)(question(AnswerKind.OPEN), model, ignore_events)
    assert result.chosen[0].candidate.text == " a longer answer"
