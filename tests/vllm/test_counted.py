"""What is counted is what was said and what was done: metrics against replies, and against vLLM's own counters."""

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open

from tests.counted import Counted

pytestmark = [pytest.mark.vllm, pytest.mark.anyio]

QUESTIONS = ("What is 17 + 25?", "What is 8 * 7 - 3?", "Name a colour.")
MIX: tuple[dict[str, Any], ...] = (
    {"strategy": "direct"},
    {"strategy": "best_of_n", "n": 4, "verifier": "p_true"},
    {"strategy": "self_consistency", "n": 6, "answer": "math"},
    {"strategy": "self_consistency", "n": 6, "schedule": "waves", "answer": "math"},
    {"strategy": "self_consistency", "n": 6, "cut": 0.9, "warm_up": 2, "group_tokens": 4, "confidence": 1.0, "answer": "math"},
    {"strategy": "backtracking", "n": 2, "answer": "math"},
    {"strategy": "adaptive", "n": 4, "answer": "math"},
    {"strategy": "beam_search", "n": 4, "verifier": "equations", "step_tokens": 12},
    {"strategy": "tree_of_thoughts", "samples": 2, "breadth": 1, "depth": 2},
    {"strategy": "mcts", "iterations": 4, "workers": 2, "expand": 2, "value": "agreement", "answer": "math"},
    {"strategy": "particle_filtering", "n": 4, "verifier": "likelihood", "step_tokens": 12},
    {"strategy": "sequential_revision", "chains": 2, "attempts": 2},
    {"strategy": "self_aggregation", "n": 2, "rounds": 2, "verifier": "tournament"},
    {"strategy": "best_of_n", "n": 4, "verifier": "likelihood", "budget": {"tokens": 60}},
    {"strategy": "direct", "budget": {"seconds": 0.05}},
    {},
)


MAX_TOKENS = {"smollm2-135m": 40, "reasoning": 40, "thinking": 100}
"""Of each answer. With a model that thinks, some end within the thinking and some behind it."""


async def ask(http: httpx.AsyncClient, model: str, ponder: dict[str, Any], question: str, **fields: Any) -> httpx.Response:
    """One request of few tokens."""
    messages = [{"role": "user", "content": question}]
    body = {"model": model, "messages": messages, "max_tokens": MAX_TOKENS[model], "ponder": ponder, **fields}
    return await http.post("/v1/chat/completions", json=body)


async def test_counters_equal_what_the_replies_said_and_what_the_engine_counted(http: httpx.AsyncClient) -> None:
    """Every strategy, base model and adapters, at once, with votes that end early, budgets and deadlines: to the token and the FLOP.

    One of the adapters thinks.
    """
    before = Counted((await http.get("/metrics")).text)
    jobs = [
        ask(http, model, ponder, QUESTIONS[number % len(QUESTIONS)], seed=number)
        for number, ponder in enumerate(MIX)
        for model in MAX_TOKENS
    ]
    replies = await asyncio.gather(*jobs)
    assert {reply.status_code for reply in replies} == {200}
    told: Counter[str] = Counter()
    for account in (reply.json()["ponder"] for reply in replies):
        told.update({f"tokens {kind}": amount for kind, amount in account["tokens"].items()})
        told.update({f"flops {kind}": amount for kind, amount in account["flops"].items()})
        told.update({f"branches {kind}": amount for kind, amount in account["branches"].items()})
    after = Counted((await http.get("/metrics")).text)

    def grown(name: str, **labels: str) -> float:
        return after.sum(name, **labels) - before.sum(name, **labels)

    assert grown("ponder_requests_total", outcome="completed") == len(replies)
    assert grown("ponder_plans_total") == len(replies)
    for kind in ("prefilled", "cached", "decoded", "verified"):
        assert grown("ponder_tokens_total", kind=kind) == told[f"tokens {kind}"]
    for kind in ("prefill", "decode", "verify"):
        assert grown("ponder_flops_total", kind=kind) == told[f"flops {kind}"] > 0
    assert grown("ponder_flops_saved_total", by="cache") == told["flops saved_by_cache"] > 0
    assert grown("ponder_flops_saved_total", by="early_stopping") == told["flops saved_by_early_stopping"]
    assert grown("ponder_flops_best_of_16_total") == told["flops best_of_16"] > 0
    assert grown("ponder_branches_total", state="drawn") == told["branches drawn"]
    assert grown("ponder_tokens_total", kind="decoded") == grown("vllm:generation_tokens_total")
    asked = grown("ponder_tokens_total", kind="prefilled") + grown("ponder_tokens_total", kind="cached")
    assert asked == grown("vllm:prompt_tokens_total")


async def test_a_client_that_leaves_is_counted_like_the_engine_counts_it(http: httpx.AsyncClient) -> None:
    """No reply tells of it; the engine's counters do."""
    before = Counted((await http.get("/metrics")).text)
    with pytest.raises(httpx.ReadTimeout):
        await http.post(
            "/v1/chat/completions", timeout=1.0,
            json={
                "model": "smollm2-135m", "max_tokens": 2000, "min_tokens": 2000,
                "messages": [{"role": "user", "content": "Write."}], "ponder": {"strategy": "best_of_n", "n": 4},
            },
        )  # fmt: skip
    for _ in range(100):
        after = Counted((await http.get("/metrics")).text)
        if after.sum("ponder_requests_total", outcome="cancelled") > before.sum("ponder_requests_total", outcome="cancelled"):
            break
        await asyncio.sleep(0.1)
    grown = {
        name: after.sum(name, **labels) - before.sum(name, **labels)
        for name, labels in (("ponder_tokens_total", {"kind": "decoded"}), ("vllm:generation_tokens_total", {}))
    }
    assert grown["ponder_tokens_total"] == grown["vllm:generation_tokens_total"] > 0


async def test_utilisation_is_a_share_of_a_peak_that_was_measured(http: httpx.AsyncClient) -> None:
    """Of an order that some processor has."""
    page = Counted((await http.get("/metrics")).text)
    assert 1e9 < page.sum("ponder_engine_peak_flops_per_second") < 1e15
    assert page.sum("ponder_engine_up") == 1


async def test_who_asks_for_openmetrics_gets_exemplars(http: httpx.AsyncClient) -> None:
    """Ours and the engine's on one page that parses, the trace of a request on its duration."""
    reply = await ask(http, "smollm2-135m", {"strategy": "direct"}, "Hi")
    response = await http.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"})
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in read_open(response.text)}
    exemplars = [one.exemplar.labels["trace_id"] for one in families["ponder_request_seconds"].samples if one.exemplar]
    assert reply.json()["ponder"]["trace_id"] in exemplars
    assert "vllm:generation_tokens" in families
