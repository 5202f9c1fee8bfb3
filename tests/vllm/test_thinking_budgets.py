"""A budget for thinking on real vLLM, with the shipped adapter that thinks: it holds on CPU, and its tokens are vLLM's own count."""

from typing import Any

import httpx
import pytest

from tests.counted import Counted
from tests.vllm.test_searches import generated

pytestmark = [pytest.mark.vllm, pytest.mark.anyio]

BUDGET = 32


async def ask(http: httpx.AsyncClient, tokens: int = BUDGET, **fields: Any) -> dict[str, Any]:
    options = {"budget": {"thinking_tokens": tokens}, "answer": "math", **fields.pop("ponder", {"strategy": "direct"})}
    body = {
        "model": "thinking",
        "messages": [{"role": "user", "content": "What is 17 + 25 + 8?"}],
        "max_tokens": 150,
        "seed": 3,
    }
    reply = await http.post("/v1/chat/completions", json={**body, **fields, "ponder": options})
    assert reply.status_code == 200, reply.text
    return reply.json()


async def prompts(http: httpx.AsyncClient) -> int:
    """Tokens of all prompts, by vLLM's own counter."""
    return round(Counted((await http.get("/metrics")).text).sum("vllm:prompt_tokens_total"))


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": "direct"},
        {"strategy": "self_consistency", "n": 4},
        {"strategy": "beam_search", "n": 4, "expand": 2, "separator": "\n"},
    ],
    ids=lambda options: options["strategy"],
)
async def test_no_branch_thinks_longer_than_its_budget(http: httpx.AsyncClient, options: dict[str, Any]) -> None:
    """It is cut, and answers. What vLLM has read and generated is what the reply counts."""
    before = await generated(http), await prompts(http)
    reply = await ask(http, ponder=options)
    after = await generated(http), await prompts(http)
    ponder = reply["ponder"]
    assert after[0] - before[0] == ponder["tokens"]["decoded"] == reply["usage"]["completion_tokens"]
    assert after[1] - before[1] == ponder["tokens"]["prefilled"] + ponder["tokens"]["cached"]
    assert ponder["branches"]["thinking_cut"] > 0
    assert reply["choices"][0]["message"]["content"].strip()
    for candidate in ponder["candidates"]:
        assert candidate["thinking_tokens"] <= BUDGET


async def test_a_budget_of_0_leaves_the_block_of_thinking_empty(http: httpx.AsyncClient) -> None:
    """The answer begins behind it."""
    [choice] = (await ask(http, 0))["choices"]
    assert not (choice["message"].get("reasoning") or "").strip()
    assert choice["message"]["content"].strip()


async def test_a_seed_repeats_thinking_and_answer(http: httpx.AsyncClient) -> None:
    """Each part is drawn with a seed that follows from the request's."""
    first, second = [(await ask(http, temperature=1.0))["choices"] for _ in range(2)]
    assert first == second
