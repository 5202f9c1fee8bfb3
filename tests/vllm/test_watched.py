"""As it is deployed: Debian's prometheus scrapes a real server under mixed load, and every query of every panel and rule has data."""

import math
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.dashboards import Query, chosen, metrics, queries, rules
from tests.server import ForkedServer
from tests.tools import ROOT, tool
from tests.valkey import Valkey

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
STEP_S = 2
WINDOW = "20s"

UNMEASURED = "Energy (where measured)"
"""The row of panels that have data only where the machine measures energy: RAPL or NVML."""


@dataclass(frozen=True)
class Watched:
    """A server that was under load, and the Prometheus that watched it."""

    prometheus: httpx.Client
    page: str
    start: float
    end: float

    def ask(self, path: str, **parameters: Any) -> Any:
        """What Prometheus' API answers."""
        reply = self.prometheus.get(f"/api/v1/{path}", params=parameters).json()
        assert reply["status"] == "success", reply
        return reply["data"]

    def values(self, expr: str) -> list[float]:
        """All that a query gives over the time of the load; without those that are no numbers, as where nothing is divided by nothing."""
        series = self.ask("query_range", query=expr, start=self.start, end=self.end, step=STEP_S)["result"]
        return [value for one in series for _, text in one["values"] if math.isfinite(value := float(text))]


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
            _prometheus(folder, server.port) as url,
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


class _prometheus:  # noqa: N801 - used like a function
    """Debian's, with the configuration that is deployed: only who is scraped how often, and with which key, is this test's."""

    def __init__(self, folder: Path, target: int) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.url = f"http://{address}"
        source = ROOT / "deploy" / "prometheus"
        config = yaml.safe_load((source / "prometheus.yml").read_text())
        config["global"] = {
            "scrape_interval": f"{STEP_S}s",
            "scrape_timeout": f"{STEP_S}s",
            "evaluation_interval": f"{STEP_S}s",
        }
        config["rule_files"] = [str(source / name) for name in config["rule_files"]]
        (scraped,) = config["scrape_configs"]
        del scraped["dns_sd_configs"]
        scraped["static_configs"] = [{"targets": [f"127.0.0.1:{target}"]}]
        scraped["authorization"]["credentials_file"] = str(folder / "key")
        (folder / "key").write_text(ADMIN_KEY)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.log = folder / "prometheus.log"
        self.command = [
            tool("prometheus"), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}", "--enable-feature=exemplar-storage",
        ]  # fmt: skip

    def __enter__(self) -> str:
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(self.command, stdout=output, stderr=subprocess.STDOUT)
        for _ in range(150):
            try:
                if httpx.get(f"{self.url}/-/ready").status_code == 200:
                    return self.url
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        self.__exit__()
        pytest.fail(f"prometheus did not start:\n{self.log.read_text()[-4000:]}")

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


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
    "query", [query for query in queries() if query.row != UNMEASURED], ids=lambda query: f"{query.board}-{query.panel}"
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


@pytest.mark.parametrize("alert", [rule for rule in rules() if "alert" in rule], ids=lambda rule: rule["alert"])
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
