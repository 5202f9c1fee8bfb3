"""A budget for thinking holds for every answer, with every strategy and in every path; what it writes is counted and shown honestly."""

import json
from typing import Any

import pytest

from strategies.registry import STRATEGIES
from tests.thinkers import MARKS, PARAMETERS, UNTOUCHED, thinker

pytestmark = pytest.mark.anyio

THOUGHTS = " Let me see.\n\nSeventeen and twenty five:\n\nthat is forty two.\n\nWait, I check it again, slowly and with care."
ANSWER = "\n\nThe answer is 42."
BUDGET = 7
DIRECT = {"strategy": "direct"}
ALL = pytest.mark.parametrize("name", STRATEGIES.names())
THINKER = thinker(f"{THOUGHTS} {MARKS[1]}{ANSWER}")


def thoughts(text: str) -> list[str]:
    """The words of a thinking."""
    return text.rpartition(MARKS[0])[2].partition(MARKS[1])[0].split()


def is_outside(text: str) -> bool:
    """Whether a text does not end within a thinking."""
    return text.rfind(MARKS[0]) <= text.rfind(MARKS[1])


async def ask(served, name: str = "direct", tokens: int | None = BUDGET, **fields: Any) -> dict[str, Any]:
    options = {"strategy": name, "answer": "math", **PARAMETERS.get(name, {"n": 3}), **fields.pop("ponder", {})}
    if tokens is not None:
        options["budget"] = {"thinking_tokens": tokens, **options.get("budget", {})}
    reply = await served.chat(ponder=options, **fields)
    assert reply.status_code == 200, reply.text
    return reply.json()


@ALL
@pytest.mark.parametrize("is_streamed", [False, True])
async def test_no_answer_thinks_longer(serve, name: str, is_streamed: bool) -> None:
    """However a strategy draws: whole answers, steps of the thinking, or further turns."""
    async with serve(THINKER, thinking=MARKS) as served:
        if is_streamed:
            options = {
                "strategy": name,
                "answer": "math",
                **PARAMETERS.get(name, {"n": 3}),
                "budget": {"thinking_tokens": BUDGET},
            }
            assert (await served.chat(ponder=options, stream=True)).status_code == 200
        else:
            body = await ask(served, name)
            assert "42" in body["choices"][0]["message"]["content"]
            assert body["choices"][0]["finish_reason"] == "stop"
            assert body["ponder"]["branches"]["thinking_cut"] > 0
        for branch in served.engine.branches:
            assert len(thoughts(served.engine.decode(branch.prefix))) <= BUDGET
            if MARKS[1] not in served.engine.decode(branch.prefix).rpartition(MARKS[0])[2]:
                assert branch.max_tokens + len(thoughts(served.engine.decode(branch.prefix))) <= BUDGET


@ALL
async def test_a_model_that_opens_its_thinking_itself_has_the_same_budget(serve, name: str) -> None:
    """As Qwen3 does: the prompt does not end in the thinking, and the budget begins where the model's own mark ends."""
    async with serve(THINKER, thinking=MARKS, opens_thinking=False) as served:
        body = await ask(served, name)
    assert "42" in body["choices"][0]["message"]["content"]
    assert body["ponder"]["branches"]["thinking_cut"] > 0
    for branch in served.engine.branches:
        assert branch.max_tokens <= BUDGET or is_outside(served.engine.decode(branch.prefix))


@pytest.mark.parametrize("opens", [True, False])
async def test_a_least_number_of_tokens_does_not_pass_the_budget(serve, opens: bool) -> None:
    """Engines look for stop strings, and so for the marks, only behind `min_tokens`."""
    async with serve(THINKER, thinking=MARKS, opens_thinking=opens) as served:
        for tokens in (0, 1, BUDGET):
            body = await ask(served, tokens=tokens, min_tokens=25)
            message = body["choices"][0]["message"]
            assert message.get("reasoning", "").split() == THOUGHTS.split()[:tokens]
            assert message["content"] == ANSWER


@ALL
async def test_every_token_is_counted(serve, name: str) -> None:
    """What is computed for a leg is its whole prefix, less what is cached: the end that the server writes is a token of a prefix."""
    async with serve(THINKER, thinking=MARKS) as served:
        body = await ask(served, name)
        prefixes = sum(len(branch.prefix) for branch in served.engine.branches)
    tokens, usage = body["ponder"]["tokens"], body["usage"]
    assert tokens["prefilled"] + tokens["cached"] == prefixes
    assert usage["completion_tokens"] == tokens["decoded"]
    assert 0 <= usage["completion_tokens_details"]["reasoning_tokens"] <= tokens["decoded"]


async def test_the_end_is_written_and_the_answer_follows(serve) -> None:
    """The reply looks as if the model had ended its thinking. The written token is no generated one."""
    async with serve(THINKER, thinking=MARKS) as served:
        body = await ask(served, return_token_ids=True)
        text = served.engine.decode(body["choices"][0]["token_ids"])
        page = (await served.client.get("/metrics")).text
    assert text == " Let me see.\n\nSeventeen and twenty five: </think>\n\nThe answer is 42."
    assert body["choices"][0]["message"]["content"].strip() == "The answer is 42."
    assert body["usage"]["completion_tokens"] == len(body["choices"][0]["token_ids"]) - 1
    [candidate] = body["ponder"]["candidates"]
    assert candidate["thinking_cut"]
    assert candidate["thinking_tokens"] == BUDGET == body["usage"]["completion_tokens_details"]["thinking_tokens"]
    [line] = [one for one in page.splitlines() if 'state="thinking_cut"' in one and 'strategy="direct"' in one]
    assert float(line.split()[-1]) == 1


async def test_thinking_that_ends_by_itself_is_not_cut(serve) -> None:
    """The text is the one without a budget; the budget costs one more call of the engine, whose prefix is cached."""
    async with serve(THINKER, thinking=MARKS) as served:
        with_budget, without = await ask(served, tokens=100), await ask(served, tokens=None)
        assert len(served.engine.branches) == 3
    for field in ("choices", "usage"):
        for one in (with_budget, without):
            one["usage"].pop("prompt_tokens_details", None)
        assert with_budget[field] == without[field]
    assert with_budget["ponder"]["branches"] == {"drawn": 1, "cancelled": 0, **UNTOUCHED}


async def test_without_a_budget_there_is_one_call(serve) -> None:
    """A branch is cut into legs for a budget only."""
    async with serve(THINKER, thinking=MARKS) as served:
        await ask(served, tokens=None)
        [branch] = served.engine.branches
    assert branch.separators == ()


@pytest.mark.parametrize("tokens", [0, 1, BUDGET, 100])
async def test_a_stream_says_what_the_whole_reply_says(serve, tokens: int) -> None:
    """Text, log-probabilities and the finish reason; the reason comes once."""
    fields = {"logprobs": True, "include_reasoning": True}
    async with serve(THINKER, thinking=MARKS) as served:
        whole = (await ask(served, tokens=tokens, **fields))["choices"][0]
        options = {**DIRECT, "budget": {"thinking_tokens": tokens}}
        text = (await served.chat(ponder=options, stream=True, **fields)).text
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {")]
    choices = [choice for line in lines for choice in json.loads(line)["choices"]]
    deltas = [choice["delta"] for choice in choices]
    assert "".join(delta.get("content") or "" for delta in deltas) == whole["message"]["content"]
    assert "".join(delta.get("reasoning") or "" for delta in deltas) == whole["message"].get("reasoning", "")
    entries = [entry for choice in choices for entry in (choice.get("logprobs") or {}).get("content") or []]
    assert entries == whole["logprobs"]["content"]
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]
    written = [entry["logprob"] for entry in entries if entry["token"] == f" {MARKS[1]}"]
    assert written == [0.0 if tokens < 100 else pytest.approx(-0.8)]


async def test_a_budget_of_0_is_no_thinking(serve) -> None:
    """The block of thinking is empty."""
    async with serve(THINKER, thinking=MARKS) as served:
        body = await ask(served, tokens=0)
        [branch] = served.engine.branches
    assert served.engine.decode(branch.prefix).endswith(f"{MARKS[0]} {MARKS[1]}")
    message = body["choices"][0]["message"]
    assert (message["content"].strip(), message.get("reasoning", "").strip()) == ("The answer is 42.", "")


async def test_max_tokens_bounds_thinking_and_answer_together(serve) -> None:
    """The end that the server writes counts too. Where there is no room behind it, the answer is cut in its thinking."""
    async with serve(THINKER, thinking=MARKS) as served:
        for limit in range(1, 14):
            [choice] = (await ask(served, max_tokens=limit, return_token_ids=True))["choices"]
            assert len(choice["token_ids"]) <= limit
            assert choice["finish_reason"] == ("stop" if limit >= 12 else "length")


async def test_a_stop_string_of_the_caller_ends_the_answer(serve) -> None:
    """In the thinking, behind it, and in the end that the server writes."""
    async with serve(THINKER, thinking=MARKS) as served:
        bodies = [await ask(served, stop=[stop], return_token_ids=True) for stop in ("Seventeen", "answer", "</think>")]
        texts = [served.engine.decode(body["choices"][0]["token_ids"]) for body in bodies]
    assert [text.split()[-1] for text in texts] == ["see.", "The", "five:"]
    assert [body["choices"][0]["finish_reason"] for body in bodies] == ["stop"] * 3


async def test_seeds_are_reproducible(serve) -> None:
    """The answer has a seed of its own, which follows from the sample's."""
    async with serve(lambda prompt, number: f"{THINKER(prompt, number)} {number}", thinking=MARKS) as served:
        first, second, other = [await ask(served, seed=seed, n=2) for seed in (3, 3, 4)]
    assert first["choices"] == second["choices"] != other["choices"]
    seeds = [branch.seed for branch in served.engine.branches[:4]]
    assert len(set(seeds)) == 4
    assert {3, 4} < set(seeds)


async def test_the_smaller_budget_holds(serve) -> None:
    """The caller's two spellings, and the operator's setting. -1 is vLLM's for no budget."""

    async def thought(served, **fields: Any) -> int:
        body = await ask(served, tokens=None, **fields)
        return len(body["choices"][0]["message"].get("reasoning", "").split())

    own = {"ponder": {"budget": {"thinking_tokens": 5}}}
    async with serve(THINKER, thinking=MARKS) as served:
        assert await thought(served, **own) == 5
        assert await thought(served, thinking_token_budget=3) == 3
        assert await thought(served, thinking_token_budget=3, **own) == 3
        assert await thought(served, thinking_token_budget=-1) == len(THOUGHTS.split())
    async with serve(THINKER, thinking=MARKS, max_thinking_tokens=2) as served:
        assert await thought(served, **own) == 2
        assert await thought(served) == 2


async def test_the_messages_api_has_it_as_budget_tokens(serve) -> None:
    """As with Anthropic: so many tokens of thinking before the answer."""
    async with serve(THINKER, thinking=MARKS) as served:
        fields = {"model": "scripted@direct", "max_tokens": 100, "messages": [{"role": "user", "content": "17 + 25?"}]}
        body = {**fields, "thinking": {"type": "enabled", "budget_tokens": 4}}
        blocks = (await served.client.post("/v1/messages", json=body)).json()["content"]
    assert [block["type"] for block in blocks] == ["thinking", "text"]
    assert blocks[0]["thinking"].split() == THOUGHTS.split()[:4]


async def test_the_responses_api_has_it_in_its_ponder_object(serve) -> None:
    """OpenAI's own fields have no budget for thinking."""
    async with serve(THINKER, thinking=MARKS) as served:
        body = {"model": "scripted@direct", "input": "17 + 25?", "ponder": {"budget": {"thinking_tokens": 4}}}
        items = (await served.client.post("/v1/responses", json=body)).json()["output"]
    assert [item["type"] for item in items] == ["reasoning", "message"]
    assert items[0]["content"][0]["text"].split() == THOUGHTS.split()[:4]


async def test_a_model_that_does_not_think_takes_it_without_effect(serve) -> None:
    """As vLLM's clients expect, who send it to every model. The reply says so."""
    async with serve(["It is 42."]) as served:
        body = await ask(served)
    assert body["choices"][0]["message"]["content"] == "It is 42."
    assert any("does not think" in note for note in body["ponder"]["notes"])


@pytest.mark.parametrize("field", ["thinking_token_budget", "ponder.budget.thinking_tokens"])
async def test_what_is_no_budget_is_refused(serve, field: str) -> None:
    """The error names the field."""
    async with serve(THINKER, thinking=MARKS) as served:
        for value in (-2, 2**63, "5", 5.5, True, [], {}):
            fields: dict[str, Any] = {field: value} if "." not in field else {"ponder": {"budget": {"thinking_tokens": value}}}
            reply = await served.chat(**fields)
            assert (reply.status_code, reply.json()["error"]["param"]) == (400, field)


async def test_a_budget_of_all_tokens_is_never_exceeded(serve) -> None:
    """Also where it ends within a leg: what is left of a reservation is what the rest of the branch may use."""
    async with serve(THINKER, thinking=MARKS) as served:
        for total in range(1, 30):
            body = await ask(served, "best_of_n", ponder={"budget": {"tokens": total}})
            assert body["usage"]["completion_tokens"] <= total


async def test_a_budget_of_flops_is_never_exceeded(serve) -> None:
    """A leg's prefix is computed again at worst, and its FLOPs are reserved before it begins."""
    async with serve(THINKER, thinking=MARKS) as served:
        full = (await ask(served))["ponder"]["flops"]["total"]
        for share in range(1, 10):
            body = await ask(served, ponder={"budget": {"flops": full * share // 8}})
            assert body["ponder"]["flops"]["total"] <= full * share // 8


async def test_a_branch_that_is_ended_begins_no_leg(serve) -> None:
    """A deadline in the thinking ends the branch there, and its tokens are counted."""
    async with serve(THINKER, thinking=MARKS, seconds_per_token=0.02) as served:
        body = await ask(served, tokens=100, ponder={"budget": {"seconds": 0.1}})
    assert body["ponder"]["stop_reason"] == "budget_seconds"
    assert body["usage"]["completion_tokens"] < len(THOUGHTS.split())
