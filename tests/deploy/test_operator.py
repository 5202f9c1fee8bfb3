"""deploy/kubernetes/components/monitoring: its objects have no field that the Prometheus Operator does not know.

The schemas are ours, as much of the operator's as is used here. No package has its own in a form that serves: npm's
`@kubernetes-models/prometheus-operator` is compiled to JavaScript that lets unknown fields pass, and PyPI's
`cloudcoil-models-prometheus-operator` drops them without a word. A round trip through the latter lost nothing when these were written.
"""

import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.custom_resources import TEXT, TEXTS, strict_document, strict_object
from tests.rendered import OPERATOR, Documents, matches, of_kind
from tests.tools import ROOT

DURATION = {"type": "string", "pattern": r"^(0|[0-9]+(ms|[smhdwy]))$"}  # the operator also takes those of several units
KEY = strict_object("name key", name=TEXT, key=TEXT)
ENDPOINT = strict_object(
    "port",
    port=TEXT,
    path=TEXT,
    interval=DURATION,
    scrapeTimeout=DURATION,
    authorization=strict_object(type={"const": "Bearer"}, credentials=KEY),
)
SERVICE_MONITOR = strict_document(
    OPERATOR,
    "ServiceMonitor",
    strict_object(
        "selector endpoints",
        jobLabel=TEXT,
        selector=strict_object("matchLabels", matchLabels=TEXTS),
        endpoints={"type": "array", "minItems": 1, "items": ENDPOINT},
    ),
)
RULE = strict_object("expr", alert=TEXT, record=TEXT, expr=TEXT, labels=TEXTS, annotations=TEXTS, **{"for": DURATION})
RULE |= {"oneOf": [{"required": ["alert"]}, {"required": ["record"]}]}
GROUP = strict_object("name rules", name={"type": "string", "minLength": 1}, rules={"type": "array", "items": RULE})
PROMETHEUS_RULE = strict_document(
    OPERATOR, "PrometheusRule", strict_object("groups", groups={"type": "array", "minItems": 1, "items": GROUP})
)


def rules(*folder: Path) -> Documents:
    """Return what rules.sh makes of the rules in a folder, by default of the deployed ones."""
    script = ROOT / "deploy/kubernetes/components/monitoring/rules.sh"
    run = subprocess.run(["sh", script, *folder], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(run.stdout))


def test_the_operator_knows_what_it_is_given(fleet: Documents) -> None:
    jsonschema.validate(of_kind(fleet, "ServiceMonitor"), SERVICE_MONITOR)
    for document in rules():
        jsonschema.validate(document, PROMETHEUS_RULE)


def test_a_misspelt_field_is_seen(fleet: Documents) -> None:
    monitor, (_, alerts) = of_kind(fleet, "ServiceMonitor"), rules()
    monitor["spec"]["endpoints"][0]["intervall"] = "15s"
    alerts["spec"]["groups"][0]["rules"][0]["four"] = "1m"
    for document, schema in ((monitor, SERVICE_MONITOR), (alerts, PROMETHEUS_RULE)):
        with pytest.raises(jsonschema.ValidationError, match="Additional properties"):
            jsonschema.validate(document, schema)


def test_the_scraper_has_its_key(fleet: Documents, example: dict) -> None:
    """It scrapes the port of the Service, which it finds by the Service's label."""
    monitor, service = of_kind(fleet, "ServiceMonitor")["spec"], of_kind(fleet, "Service", "ponder")
    (endpoint,) = monitor["endpoints"]
    found = [one for one in fleet if one["kind"] == "Service" and matches(monitor["selector"], one["metadata"]["labels"])]
    assert found == [service], "front ends tell of their replicas"
    assert service["metadata"]["labels"][monitor["jobLabel"]] == "ponder", "as alerts call the job"
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    assert endpoint["authorization"]["credentials"]["name"] == example["metadata"]["name"]
    assert endpoint["authorization"]["credentials"]["key"] in example["stringData"]


def test_rules_of_prometheus_become_the_operators(tmp_path: Path) -> None:
    """Every group is unchanged, also with text over several lines."""
    groups = [{"name": "a", "rules": [{"alert": "A", "expr": "a\n  > 1\n", "annotations": {"summary": "one: two"}}]}]
    for name in ("rules", "alerts"):
        (tmp_path / f"{name}.yml").write_text(f"# {name}\n" + yaml.safe_dump({"groups": groups}), encoding="utf-8")
    made = rules(tmp_path)
    assert [document["metadata"]["name"] for document in made] == ["ponder-rules", "ponder-alerts"]
    assert all(document["spec"] == {"groups": groups} for document in made)
