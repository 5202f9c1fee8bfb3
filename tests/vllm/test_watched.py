"""As it is deployed: Debian's prometheus scrapes a real server under mixed load, and every query of every panel and rule has data.

What tells of replicas is in test_replicas.py.
"""

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.dashboards import Query, chosen, is_of_replicas, metrics, queries, rules
from tests.server import ForkedServer
from tests.tools import ROOT, tool
from tests.valkey import Valkey
from tests.watching import STEP_S, WINDOW, Prometheus, Watched

pytestmark = pytest.mark.vllm

MODEL = "smollm2-135m"
ADAPTERS = ROOT / "tests" / "data" / "adapters"
ADMIN_KEY = "watcher"
SUM = "What is 17 + 25?"
STRATEGIES: list[dict[str, Any]] = [
    {"strategy": "direct"},
    {"strategy": "best_of_n", "n": 2},
    {"strategy": "self_consistency", "n": 4},
    {"strategy": "adaptive", "n": 4},
    {"strategy": "beam_search", "n": 2, "expand": 2},
    {"strategy": "tree_of_thoughts", "samples": 2, "depth": 2},
    {"strategy": "mcts", "iterations": 2, "expand": 2, "workers": 2},
    {"strategy": "particle_filtering", "n": 2},
    {"strategy": "sequential_revision", "chains": 1, "attempts": 2},
    {"strategy": "best_of_n", "n": 2, "verifier": {"reward_model": "away"}},
]
ROUNDS = 2  # what begins with its first event, and not at zero, has a rate from the second on
UNMEASURED = "Energy (where measured)"
"""The row of panels that have data only where the machine measures energy: RAPL or NVML."""


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    away = '{"away": {"url": "http://127.0.0.1:9", "route": "classify", "retries": 0, "timeout_seconds": 2}}'
    valkey = Valkey(folder / "valkey")  # what an alert says of the shared state has data only where there is one
    valkey.start()
    server = ForkedServer(
        "--shared-state-url", valkey.url,
        "--admin-keys", ADMIN_KEY, "--kv-cache-gib", "1", "--max-model-len", "2048", "--max-branches", "16", "--max-branches-per-key", "24",
        "--adapter-slots", "2", "--reward-models", away, log=folder / "log",
    )  # fmt: skip
    try:
        server.wait()
        with (
            Prometheus(folder, server.port, ADMIN_KEY) as url,
            httpx.Client(base_url=url, timeout=60) as prometheus,
            httpx.Client(base_url=server.url, timeout=300, headers={"Authorization": f"Bearer {ADMIN_KEY}"}) as http,
        ):
            start = time.time()
            for number in range(ROUNDS):
                _load(http, number)
            time.sleep(3 * STEP_S)  # the last scrape, and the rules' look at it
            page = http.get("/metrics").text
            yield Watched(prometheus, page, start, time.time())
    finally:
        status = server.stop()
        valkey.kill()
        assert status == 0


def _load(http: httpx.Client, number: int) -> None:
    """One of everything that a server meets."""
    for name, folder in (("colour", "red" if number % 2 else "green"), ("word", "yes")):
        _push(http, name, ADAPTERS / folder)  # more adapters than slots, with the one that is shipped: some are evicted
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda options: _ask(http, **options), STRATEGIES))
        list(pool.map(lambda model: _ask(http, model=model, strategy="direct"), ("colour", "word", "colour")))
    for effort in ("low", "high"):
        question = f"What is {number + 12} * 7? Think step by step."
        trace = _ask(http, model="reasoning", question=question, max_tokens=64, strategy="auto", effort=effort)["ponder"][
            "trace_id"
        ]
        http.post("/v1/feedback", json={"trace_id": trace, "correct": effort == "low"}).raise_for_status()
    _ask(http, strategy="auto", dry_run=True)
    _ask(http, strategy="self_consistency", n=4, budget={"tokens": 16})
    _ask(http, max_tokens=512, ignore_eos=True, strategy="best_of_n", n=4, budget={"seconds": 0.5})
    assert _post(http, temperature=0, strategy="best_of_n").status_code == 400
    for options in ({"strategy": "direct"}, {"strategy": "self_consistency", "n": 2}):
        with http.stream("POST", "/v1/chat/completions", json=_body(stream=True, **options)) as reply:
            assert list(reply.iter_lines())[-2:] == ["data: [DONE]", ""]
    with ThreadPoolExecutor(2) as pool:  # together more than one key may have in work
        both = pool.map(lambda _: _post(http, strategy="best_of_n", n=16, max_tokens=64, ignore_eos=True), range(2))
        assert sorted(reply.status_code for reply in both) == [200, 429]


def _push(http: httpx.Client, name: str, folder: Path) -> None:
    files = [("files", (path.name, path.read_bytes())) for path in sorted(folder.iterdir()) if path.suffix != ".md"]
    http.post("/v1/adapters", data={"name": name}, files=files).raise_for_status()


def _body(model: str = MODEL, question: str = SUM, **fields: Any) -> dict[str, Any]:
    ours = {"max_tokens", "temperature", "ignore_eos", "stream"}
    body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 16}
    body |= {name: value for name, value in fields.items() if name in ours}
    return body | {"ponder": {name: value for name, value in fields.items() if name not in ours}}


def _post(http: httpx.Client, **fields: Any) -> httpx.Response:
    return http.post("/v1/chat/completions", json=_body(**fields))


def _ask(http: httpx.Client, **fields: Any) -> dict[str, Any]:
    reply = _post(http, **fields)
    assert reply.status_code == 200, reply.text
    return reply.json()


@pytest.mark.parametrize(
    "query",
    [query for query in queries() if query.row != UNMEASURED and not is_of_replicas(query.expr)],
    ids=lambda query: f"{query.board}-{query.panel}",
)
def test_every_query_of_every_panel_has_data(watched: Watched, query: Query) -> None:
    assert watched.values(chosen(query.expr, window=WINDOW)), query.expr


@pytest.mark.parametrize("name", [rule["record"] for rule in rules() if "record" in rule])
def test_every_recorded_series_has_data(watched: Watched, name: str) -> None:
    assert watched.values(name)


def test_every_rule_is_evaluated(watched: Watched) -> None:
    """All of them, without an error; and a server that is well is told of by no alert."""
    seen = [rule for group in watched.ask("rules")["groups"] for rule in group["rules"]]
    assert len(seen) == len(rules())
    assert [(rule["name"], rule.get("lastError")) for rule in seen if rule["health"] != "ok"] == []
    assert [rule["name"] for rule in seen if rule.get("state") == "firing"] == []


@pytest.mark.parametrize(
    "alert", [rule for rule in rules() if "alert" in rule and not is_of_replicas(rule["expr"])], ids=lambda rule: rule["alert"]
)
def test_what_an_alert_compares_has_data(watched: Watched, alert: dict) -> None:
    """Its metrics, one by one: an alert whose series are misspelt would keep quiet for ever."""
    assert [name for name in metrics(alert["expr"]) if not watched.values(name)] == []


def test_every_metric_that_is_read_is_exported(watched: Watched) -> None:
    """Also those that have no series yet."""
    exported = set()
    for line in watched.page.splitlines():
        if line.startswith("# TYPE"):
            _, _, name, kind = line.split()
            exported |= {name + end for end in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))}
    read = {name for query in queries() if query.row != UNMEASURED for name in metrics(query.expr)}
    read |= {name for rule in rules() for name in metrics(rule["expr"])}
    assert {name for name in read if name != "up" and name.count(":") < 2} - exported == set()


def test_promtool_finds_no_fault_in_ponders_metrics(watched: Watched) -> None:
    """Of the whole page; what it says of vLLM's is not ours to mend."""
    done = subprocess.run([tool("promtool"), "check", "metrics"], input=watched.page, capture_output=True, text=True)
    said = (done.stdout + done.stderr).splitlines()
    assert [line for line in said if not line.startswith("vllm:")] == []


def test_exemplars_lead_from_a_latency_to_a_trace(watched: Watched) -> None:
    for name in (
        "ponder_request_seconds_bucket",
        "ponder_time_to_first_token_seconds_bucket",
        "ponder_adapter_request_seconds_bucket",
    ):
        kept = watched.ask("query_exemplars", query=name, start=watched.start, end=watched.end)
        assert [one["labels"]["trace_id"] for series in kept for one in series["exemplars"]], name
