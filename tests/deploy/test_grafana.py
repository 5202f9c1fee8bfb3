"""The dashboards: committed files are what the code writes, Grafana's own models read them, and every panel is explained."""

import json
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.dashboards import DASHBOARDS, chosen, metrics, panels, queries, rules
from tests.tools import ROOT, tool

FOLDER = ROOT / "deploy" / "grafana"

each_board = pytest.mark.parametrize(
    "board", [json.loads(path.read_text()) for path in DASHBOARDS], ids=lambda board: board["uid"]
)


def test_what_is_committed_is_what_the_code_writes() -> None:
    done = subprocess.run([sys.executable, FOLDER / "generate.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_there_are_five_and_they_find_each_other() -> None:
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    names = ("adapters", "compute", "replicas", "routing", "service")
    assert [board["uid"] for board in boards] == [f"ponder-{name}" for name in names]
    for board in boards:
        (link,) = board["links"]
        assert link["tags"] == board["tags"]
        assert link["includeVars"]
        assert link["keepTime"]


@each_board
def test_grafanas_models_read_it_and_lose_nothing(board: dict) -> None:
    """A field that the models do not know, misspelt or misplaced, would be missing after a round trip."""

    def without_nothing(one: dict) -> dict:
        return {
            key: value for key, value in one.items() if (key, value) != ("custom", {})
        }  # they add it where it may be left out

    register_default_plugins()
    again = json.dumps(Dashboard.from_json(board), cls=JSONEncoder)
    assert json.loads(again, object_hook=without_nothing) == board


@each_board
def test_every_panel_says_what_it_shows(board: dict) -> None:
    """Each has a title, a description, a unit, and queries whose series have names."""
    titles = [panel["title"] for panel in panels(board)]
    assert len(titles) == len(set(titles))
    for panel in panels(board):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            assert target["expr"]
            assert target["legendFormat"]
            assert target["datasource"]["uid"] == "${datasource}"


@each_board
def test_panels_are_numbered_and_lie_beside_each_other(board: dict) -> None:
    everything = [*board["panels"], *(one for row in board["panels"] for one in row.get("panels", ()))]
    assert len({panel["id"] for panel in everything}) == len(everything)
    places = [panel["gridPos"] for panel in everything]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        assert (
            one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        ), (one, other)  # fmt: skip


@each_board
def test_latencies_have_exemplars(board: dict) -> None:
    """A point of the graph links to the trace of its request."""
    for panel in panels(board):
        for target in panel["targets"]:
            if panel["type"] == "timeseries" and "request_seconds_bucket" in target["expr"]:
                assert target["exemplar"], panel["title"]


@each_board
def test_variables_offer_all(board: dict) -> None:
    source, *choices = board["templating"]["list"]
    assert source["name"] == "datasource"
    assert {choice["name"] for choice in choices} <= {"strategy", "adapter"}
    assert all(choice["includeAll"] and choice["allValue"] == ".*" for choice in choices)


@each_board
def test_a_choice_holds_for_every_panel_that_does_not_say_otherwise(board: dict) -> None:
    """No panel uses a variable that its dashboard does not offer."""
    offered = {variable["name"] for variable in board["templating"]["list"][1:]}
    for panel in panels(board):
        *_, last = panel["description"].removesuffix(".").split(". ")
        for name, many in {"strategy": "strategies", "adapter": "adapters"}.items():
            uses = [f"${name}" in target["expr"] for target in panel["targets"]]
            says = last.startswith("All ") and many in last.split()
            assert says == (name in offered and not all(uses)), (panel["title"], name)
            assert name in offered or not any(uses), panel["title"]


@pytest.mark.parametrize(
    ("title", "alert"), [("Difficulty drift", "PonderDifficultyDrift"), ("Outcome drift", "PonderOutcomeDrift")]
)
def test_drift_is_drawn_with_both_limits_of_its_alert(title: str, alert: str) -> None:
    (expr,) = [rule["expr"] for rule in rules() if rule.get("alert") == alert]
    limits = {float(limit) for limit in re.findall(r"[<>] (-?[\d.]+)", expr)}
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    (panel,) = [panel for board in boards for panel in panels(board) if panel["title"] == title]
    assert limits == {-0.1, 0.1}
    assert {step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]} == {None, *limits}


def test_prometheus_can_parse_every_query(tmp_path: Path) -> None:
    """They are checked by promtool as rules of a file."""
    made = [{"record": f"query_{number}", "expr": chosen(query.expr)} for number, query in enumerate(queries())]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": made}]}))
    done = subprocess.run([tool("promtool"), "check", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_a_query_reads_is_found() -> None:
    expr = 'sum by (job, le) (rate(a_total{b="c_d"}[$__rate_interval])) / on (job) group_left () (vllm:e > 0) or f:g_h:rate5m'
    assert metrics(expr) == {"a_total", "vllm:e", "f:g_h:rate5m"}


def test_what_is_provisioned_fits_together() -> None:
    """The default data source is the provisioned one, which knows the scrape interval."""
    (source,) = yaml.safe_load((FOLDER / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraped
    for path in DASHBOARDS:
        variables = json.loads(path.read_text())["templating"]["list"]
        assert variables[0]["current"]["value"] == source["uid"]
