"""deploy/kubernetes: what its overlays render to is valid, fits together, and fits the application."""

import os
import subprocess
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from app.settings import Settings

FOLDERS = ("base", "overlays/gpu", "overlays/fleet", "overlays/fleet-gpu")
FLEETS = FOLDERS[2:]
KUBERNETES = ("1.29", "1.37")
OPERATOR = "monitoring.coreos.com/v1"
LABELS = {"app.kubernetes.io/name": "ponder"}

KEY = {"type": "object", "required": ["name", "key"], "additionalProperties": False, "properties": {"name": {}, "key": {}}}
SERVICE_MONITOR = {  # as much of the Prometheus Operator's schema as is used here; no Python package brings it
    "type": "object",
    "required": ["selector", "endpoints"],
    "additionalProperties": False,
    "properties": {
        "jobLabel": {"type": "string"},
        "selector": {
            "type": "object",
            "required": ["matchLabels"],
            "additionalProperties": False,
            "properties": {"matchLabels": {}},
        },
        "endpoints": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "port": {"type": "string"},
                    "path": {"type": "string"},
                    "interval": {"type": "string", "pattern": r"^\d+s$"},
                    "scrapeTimeout": {"type": "string", "pattern": r"^\d+s$"},
                    "authorization": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {"type": {"const": "Bearer"}, "credentials": KEY},
                    },
                },
            },
        },
    },
}

Documents = list[dict]
Render = Callable[[str], Documents]


def of_kind(documents: Documents, kind: str) -> dict:
    """The only one."""
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


@pytest.fixture(params=FOLDERS)
def documents(request: pytest.FixtureRequest, render: Render) -> Documents:
    return render(request.param)


@pytest.fixture(params=FLEETS)
def fleet(request: pytest.FixtureRequest, render: Render) -> Documents:
    return render(request.param)


@pytest.fixture
def pod(documents: Documents) -> dict:
    return of_kind(documents, "Deployment")["spec"]["template"]["spec"]


@pytest.fixture
def container(pod: dict) -> dict:
    (only,) = pod["containers"]
    return only


@pytest.fixture
def config(documents: Documents) -> dict[str, str]:
    return of_kind(documents, "ConfigMap")["data"]


@pytest.fixture
def example(root: Path) -> dict:
    return yaml.safe_load((root / "deploy/kubernetes/secret.example.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("version", KUBERNETES)
def test_documents_are_valid(documents: Documents, version: str) -> None:
    """No field that Kubernetes does not know, in the oldest and the newest version that is told of."""
    for document in documents:
        if document["apiVersion"] == OPERATOR:
            jsonschema.validate(document["spec"], SERVICE_MONITOR)
        else:
            kubernetes_validate.validate(document, version, strict=True)


def test_all_is_in_one_namespace(documents: Documents) -> None:
    """Which admits only what the restricted Pod Security Standard does."""
    namespace = of_kind(documents, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {document["metadata"].get("namespace") for document in documents if document is not namespace} == {"ponder"}


def test_the_pod_is_restricted(pod: dict, container: dict) -> None:
    """Not root, no privileges to gain, nothing to write to but volumes, no account with the cluster."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert not any("hostPath" in volume for volume in pod["volumes"])


def test_labels_and_ports_match(documents: Documents, pod: dict, container: dict) -> None:
    """Of whatever looks for the pods, or for the port by its name."""
    deployment = of_kind(documents, "Deployment")["spec"]
    (port,) = container["ports"]
    (service_port,) = of_kind(documents, "Service")["spec"]["ports"]
    assert deployment["template"]["metadata"]["labels"] == LABELS
    assert deployment["selector"]["matchLabels"] == LABELS
    assert of_kind(documents, "Service")["spec"]["selector"] == LABELS
    assert of_kind(documents, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == LABELS
    assert of_kind(documents, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == LABELS
    assert port["containerPort"] == service_port["port"] == Settings().port
    assert port["name"] == service_port["targetPort"] == service_port["name"] == "http"
    assert {container[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")} == {"http"}


def test_a_service_of_this_name_does_not_set_our_variables(pod: dict) -> None:
    """Kubernetes would: PONDER_PORT would be an URL, and the server would not start."""
    assert pod["enableServiceLinks"] is False


def test_settings_are_settings(config: dict[str, str], container: dict, variables: set[str]) -> None:
    """And good ones."""
    ours = {name: value for name, value in config.items() if name.startswith("PONDER_")}
    assert set(ours) <= variables
    assert set(config) - set(ours) <= {"WATCHFILES_FORCE_POLLING"}
    folders = {"adapter_preload_dir": "/tmp"}  # it must be there
    Settings(**{name.removeprefix("PONDER_").lower(): value for name, value in ours.items()} | folders)
    assert "env" not in container, "keys are files, which processes do not inherit"


def test_who_has_been_accepted_is_answered(config: dict[str, str], pod: dict, container: dict) -> None:
    """The pod goes on for longer than the server drains, and the server drains for longer than the longest request."""
    drain, longest = float(config["PONDER_DRAIN_SECONDS"]), float(config["PONDER_MAX_REQUEST_SECONDS"])
    before = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert longest < drain
    assert before + drain < pod["terminationGracePeriodSeconds"]


def test_volumes_are_there(documents: Documents, pod: dict, container: dict, config: dict[str, str]) -> None:
    """What is mounted is declared, claims are made, and the server's folders are in a volume."""
    names = {volume["name"] for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert {mount["name"] for mount in mounts.values()} == names
    claims = {document["metadata"]["name"] for document in documents if document["kind"] == "PersistentVolumeClaim"}
    assert {
        volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume
    } == claims
    assert {"/tmp", "/dev/shm", "/home/ponder/.cache", "/run/secrets"} <= set(mounts)
    for name, value in config.items():
        if name.endswith("_DIR"):
            assert any(Path(value).is_relative_to(path) for path in mounts), name


def test_the_engine_finds_shared_memory(pod: dict) -> None:
    """160 MiB; with a container's usual 64 the engine does not start."""
    (shm,) = [volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "shm"]
    assert shm == {"medium": "Memory", "sizeLimit": "1Gi"}


def test_a_large_model_may_take_its_time(container: dict) -> None:
    """Twenty minutes until liveness is asked about."""
    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 1200


@pytest.mark.anyio
async def test_what_is_asked_for_is_served(render: Render, serve: Callable[..., AbstractAsyncContextManager]) -> None:
    """Probes and scraper ask for paths that there are."""
    documents = render("overlays/fleet")
    (container,) = of_kind(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    paths = {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    (endpoint,) = of_kind(documents, "ServiceMonitor")["spec"]["endpoints"]
    async with serve() as served:
        for path in (*paths, endpoint["path"]):
            assert (await served.client.get(path)).status_code == 200


def test_keys_come_from_the_secret(pod: dict, example: dict, variables: set[str]) -> None:
    """By the names that the server looks for; the example has none in it, so that a server with it refuses to start."""
    (volume,) = [volume["secret"] for volume in pod["volumes"] if volume["name"] == "keys"]
    assert volume["secretName"] == example["metadata"]["name"]
    assert {item["key"] for item in volume["items"]} < set(example["stringData"])
    assert {item["path"].upper() for item in volume["items"]} <= variables
    assert set(example["stringData"].values()) == {""}
    kubernetes_validate.validate(example, KUBERNETES[-1], strict=True)


def test_the_scraper_has_its_key(fleet: Documents, example: dict) -> None:
    """And looks at the port of the Service, by the label of the Service."""
    monitor, service = of_kind(fleet, "ServiceMonitor")["spec"], of_kind(fleet, "Service")
    (endpoint,) = monitor["endpoints"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["metadata"]["labels"][monitor["jobLabel"]] == "ponder", "as alerts call the job"
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    assert endpoint["authorization"]["credentials"]["name"] == example["metadata"]["name"]
    assert endpoint["authorization"]["credentials"]["key"] in example["stringData"]


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


def test_the_adapter_of_metrics_passes_them_on(root: Path, fleet: Documents) -> None:
    """Its rule finds the autoscaler's metrics."""
    values = yaml.safe_load(
        (root / "deploy/kubernetes/components/fleet/prometheus-adapter.values.yaml").read_text(encoding="utf-8")
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


@pytest.mark.parametrize("folder", ["overlays/gpu", "overlays/fleet-gpu"])
def test_the_gpu_is_asked_for(render: Render, folder: str) -> None:
    """And the image is the one for it."""
    (container,) = of_kind(render(folder), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "ponder:cuda"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_readme_shows_an_overlay_that_renders(root: Path, tmp_path: Path, render: Render) -> None:
    """Its image and its setting take the place of ours, and what it does not say stays."""
    shown = (root / "deploy/README.md").read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    deploy = os.path.relpath((root / "deploy").resolve(), tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(shown.replace("../deploy", deploy), encoding="utf-8")
    documents = render(str(tmp_path))
    (container,) = of_kind(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    config = of_kind(documents, "ConfigMap")["data"]
    assert container["image"] == "registry.example.org/ponder:cuda"
    assert (config["PONDER_MODEL"], config["PONDER_DRAIN_SECONDS"]) == ("Qwen/Qwen2.5-7B-Instruct", "620")


def test_rules_of_prometheus_become_the_operators(root: Path, tmp_path: Path) -> None:
    """Every group as it was, text over several lines too."""
    groups = [{"name": "a", "rules": [{"alert": "A", "expr": "a\n  > 1\n", "annotations": {"summary": "one: two"}}]}]
    for name in ("rules", "alerts"):
        (tmp_path / f"{name}.yml").write_text(f"# {name}\n" + yaml.safe_dump({"groups": groups}), encoding="utf-8")
    script = root / "deploy/kubernetes/components/monitoring/rules.sh"
    run = subprocess.run(["sh", script, tmp_path], capture_output=True, text=True, check=True)
    made = list(yaml.safe_load_all(run.stdout))
    assert [document["metadata"]["name"] for document in made] == ["ponder-rules", "ponder-alerts"]
    assert all((document["apiVersion"], document["kind"]) == (OPERATOR, "PrometheusRule") for document in made)
    assert all(document["spec"] == {"groups": groups} for document in made)
