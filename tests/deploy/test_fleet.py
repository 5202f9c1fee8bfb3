"""deploy/kubernetes' fleets: they grow with what the server exports, and none of their servers is told what the others are not."""

import yaml

from tests.rendered import Documents, of_kind
from tests.tools import ROOT


def test_fleets_grow_with_what_we_export(fleet: Documents, exported: set[str]) -> None:
    """Branches, before the engine is full of them; the autoscaler alone says how many servers there are."""
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
    """Its rule finds the autoscaler's metrics."""
    values = yaml.safe_load(
        (ROOT / "deploy/kubernetes/components/fleet/prometheus-adapter.values.yaml").read_text(encoding="utf-8")
    )
    (rule,) = values["rules"]["custom"]
    for metric in of_kind(fleet, "HorizontalPodAutoscaler")["spec"]["metrics"]:
        kind = metric["pods"]["metric"]["name"].removeprefix("ponder_branches_")
        assert kind in rule["seriesQuery"].split("ponder_branches_(")[1].split(")")[0].split("|")


def test_no_server_of_a_fleet_has_what_the_others_lack(fleet: Documents) -> None:
    """Their volumes may be many at a time, and what is shared is read only."""
    pod = of_kind(fleet, "Deployment")["spec"]["template"]["spec"]
    (claim,) = [document for document in fleet if document["kind"] == "PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    shared = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "shared"]
    assert all(mount["readOnly"] for mount in shared)
    config = of_kind(fleet, "ConfigMap")["data"]
    assert {mount["mountPath"] for mount in shared} == {config["PONDER_ADAPTER_PRELOAD_DIR"], config["PONDER_POLICY_DIR"]}
    assert config["PONDER_ADAPTER_WATCH"] == "true"
