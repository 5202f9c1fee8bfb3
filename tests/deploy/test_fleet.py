"""The fleets in deploy/kubernetes: they scale with metrics that the server exports, and all their servers are configured alike."""

import yaml

from tests.rendered import Documents, of_kind
from tests.tools import ROOT


def test_fleets_grow_with_what_we_export(fleet: Documents, exported: set[str]) -> None:
    """It adds servers by running and waiting branches before engines are full, and it alone sets the number of servers."""
    autoscaler, deployment = of_kind(fleet, "HorizontalPodAutoscaler")["spec"], of_kind(fleet, "Deployment")
    targets = {metric["pods"]["metric"]["name"]: metric["pods"]["target"] for metric in autoscaler["metrics"]}
    most = int(of_kind(fleet, "ConfigMap")["data"]["PONDER_MAX_BRANCHES"])
    assert set(targets) <= exported
    assert int(targets["ponder_branches_running"]["averageValue"]) < most
    assert autoscaler["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    assert "replicas" not in deployment["spec"]


def test_the_adapter_of_metrics_passes_them_on(fleet: Documents) -> None:
    """The rule of the prometheus-adapter finds the autoscaler's metrics."""
    values = yaml.safe_load(
        (ROOT / "deploy/kubernetes/components/fleet/prometheus-adapter.values.yaml").read_text(encoding="utf-8")
    )
    (rule,) = values["rules"]["custom"]
    for metric in of_kind(fleet, "HorizontalPodAutoscaler")["spec"]["metrics"]:
        kind = metric["pods"]["metric"]["name"].removeprefix("ponder_branches_")
        assert kind in rule["seriesQuery"].split("ponder_branches_(")[1].split(")")[0].split("|")


def test_no_server_of_a_fleet_has_what_the_others_lack(fleet: Documents) -> None:
    """Each server has volumes of its own, and what is shared is read-only."""
    pod = of_kind(fleet, "Deployment")["spec"]["template"]["spec"]
    (claim,) = [document for document in fleet if document["kind"] == "PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    shared = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "shared"]
    assert all(mount["readOnly"] for mount in shared)
    config = of_kind(fleet, "ConfigMap")["data"]
    assert {mount["mountPath"] for mount in shared} == {config["PONDER_ADAPTER_PRELOAD_DIR"], config["PONDER_POLICY_DIR"]}
    assert config["PONDER_ADAPTER_WATCH"] == "true"
