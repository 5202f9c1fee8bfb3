"""The Prometheus configuration: promtool accepts it, and every alert is tested to fire and to stay silent."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from strategies.registry import STRATEGIES
from tests.conftest import Serve
from tests.dashboards import metrics, queries
from tests.thinkers import MARKS, thinker
from tests.tools import ROOT, tool

FOLDER = ROOT / "deploy" / "prometheus"
CASES = sorted((FOLDER / "tests").glob("*.yml"))
RULES = [
    rule
    for file in ("rules.yml", "alerts.yml")
    for group in yaml.safe_load((FOLDER / file).read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = [rule["record"] for rule in RULES if "record" in rule]


def promtool(*arguments: str | Path, given: str | None = None) -> str:
    """Run promtool and return its output; the test fails with the output when promtool does."""
    done = subprocess.run([tool("promtool"), *arguments], input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_configuration_is_valid(tmp_path: Path) -> None:
    """It is checked with its rules, and with a key in place of the deployment's."""
    for file in FOLDER.glob("*.yml"):
        (tmp_path / file.name).write_text(file.read_text().replace("/run/secrets", str(tmp_path)))
    (tmp_path / "ponder_admin_key").write_text("key")
    said = promtool("check", "config", "--lint-fatal", tmp_path / "prometheus.yml")
    assert f"{len(RECORDED)} rules found" in said
    assert f"{len(ALERTS)} rules found" in said


@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.stem)
def test_rules_compute_and_alerts_fire_as_their_cases_say(cases: Path) -> None:
    promtool("test", "rules", cases)


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    fires, is_quiet = set(), set()
    for file in CASES:
        for test in yaml.safe_load(file.read_text())["tests"]:
            for case in test.get("alert_rule_test", ()):
                (fires if case["exp_alerts"] else is_quiet).add(case["alertname"])
    assert fires == is_quiet == set(ALERTS)


def test_every_recorded_series_is_computed_in_a_case() -> None:
    tests = yaml.safe_load((FOLDER / "tests" / "recording.yml").read_text())["tests"]
    computed = {
        name for test in tests for case in test["promql_expr_test"] for name in re.findall(r"\w+:\w+:\w+", case["expr"])
    }
    assert computed == set(RECORDED)


@pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS)
def test_an_alert_says_how_bad_it_is_and_what_to_do(alert: dict) -> None:
    """The summary has no values, so that alerts can be grouped by it; the description has them."""
    assert set(alert["labels"]) == {"severity"}
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert "{{" not in alert["annotations"]["summary"]
    assert "{{" in alert["annotations"]["description"]


def test_recorded_series_are_named_by_level_metric_and_operation() -> None:
    assert [name for name in RECORDED if name.count(":") != 2] == []
    assert len(set(RECORDED)) == len(RECORDED)


def test_what_is_recorded_is_read_and_what_is_read_is_recorded() -> None:
    """A panel, an alert or another rule reads each recorded series."""
    read = {
        name for expr in (*(query.expr for query in queries()), *(rule["expr"] for rule in RULES)) for name in metrics(expr)
    }
    assert {name for name in read if name.count(":") == 2} == set(RECORDED)


@pytest.mark.anyio
async def test_promtool_finds_no_fault_in_the_page_of_metrics(serve: Serve) -> None:
    """The page is checked after a request by each strategy."""
    async with serve(thinker(f" A thought.{MARKS[1]} 42"), thinking=MARKS) as served:
        for strategy in STRATEGIES.names():
            reply = await served.chat(ponder={"strategy": strategy, "answer": "math"}, max_tokens=64)
            assert reply.status_code == 200, reply.text
        page = (await served.client.get("/metrics")).text
    assert promtool("check", "metrics", given=page) == ""


def test_what_alerts_read_of_the_server_itself_is_exported(exported: set[str]) -> None:
    """The gauges exist from the start: an alert on a misspelt series would never fire."""
    assert {"ponder_start_time_seconds", "ponder_engine_up", "ponder_branches_waiting", "ponder_branch_slots"} <= exported
