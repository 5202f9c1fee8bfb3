"""deploy/helm: what the chart renders to is what `kubectl kustomize` makes of the fleets, and its values change what they say."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.rendered import OPERATOR, Documents, Render, container_of, of_kind, workloads
from tests.tools import ROOT, tool

FOLDER = ROOT / "deploy" / "helm"
CHART = FOLDER / "ponder"


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run helm."""
    return subprocess.run([tool("helm"), *arguments], capture_output=True, text=True)


def chart(*options: str | Path, namespace: str = "ponder") -> Documents:
    """Return the documents that helm makes of the chart."""
    done = helm("template", "a-release", CHART, "--namespace", namespace, *options)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def compared(documents: Documents) -> dict[tuple[str, str], dict]:
    """Return documents by kind and name, without what must differ: the namespace itself, and how changed settings restart pods."""
    (config,) = [one["metadata"]["name"] for one in documents if one["kind"] == "ConfigMap"]
    plain = (
        yaml.safe_load(re.sub(rf"\b{config}\b(?=$|\n)", "ponder", yaml.safe_dump(documents)))
        if config != "ponder"
        else documents
    )
    for workload in workloads(plain).values():
        workload["spec"]["template"]["metadata"].pop("annotations", None)
    return {(one["kind"], one["metadata"]["name"]): one for one in plain if one["kind"] != "Namespace"}


def test_templates_are_written_from_the_manifests(render: Render) -> None:
    """A change there that did not come here is seen."""
    render("overlays/fleet")  # skips where there is no kubectl
    done = subprocess.run([sys.executable, FOLDER / "generate.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("folder", "values"), [("overlays/fleet", ()), ("overlays/fleet-gpu", ("--values", CHART / "values-gpu.yaml"))]
)
def test_the_chart_renders_to_the_manifests(render: Render, folder: str, values: tuple[str | Path, ...]) -> None:
    """Whole documents are equal, with the chart's own values and with those for GPUs."""
    made, wanted = compared(chart(*values)), compared(render(folder))
    assert set(made) == set(wanted)
    for name, document in wanted.items():
        assert made[name] == document, name


def test_helm_finds_no_fault() -> None:
    done = helm("lint", CHART, "--strict")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--set", "valkey.enabled=false,monitoring.enabled=false,networkPolicies.enabled=false"),
        ("--set", "replica.storage.className=fast,adapters.storage.className=shared,image.pullSecrets[0].name=pull"),
        ("--set", "replica.nodeSelector.disk=ssd,frontEnd.tolerations[0].operator=Exists,networkPolicies.outside=false"),
    ],
    ids=["as it is", "without what may be missing", "storage and images", "places"],
)
def test_documents_are_valid_whatever_is_chosen(options: tuple[str, ...]) -> None:
    for document in chart(*options):
        if document["apiVersion"] != OPERATOR:
            kubernetes_validate.validate(document, "1.37", strict=True)


def test_what_is_switched_off_is_not_there() -> None:
    """The rest is as before."""
    everything = set(compared(chart()))
    without = {
        "valkey.enabled": {name for name in everything if "valkey" in name[1]},
        "networkPolicies.enabled": {name for name in everything if name[0] == "NetworkPolicy"},
        "networkPolicies.outside": {("NetworkPolicy", "ponder-outside")},
        "monitoring.enabled": {("ServiceMonitor", "ponder")},
    }
    for value, gone in without.items():
        assert everything - set(compared(chart("--set", f"{value}=false"))) == gone


def test_values_arrive() -> None:
    """Images have a common name; settings are common to front ends and replicas, and a change of them restarts both."""
    chosen = (
        "--set",
        "image.repository=registry.example.org/ponder,settings.PONDER_MODEL=Qwen/Qwen2.5-7B-Instruct,keys=mine,replica.replicas.max=3",
    )
    documents, before = chart(*chosen, namespace="thinking"), chart()
    assert {one["metadata"]["namespace"] for one in documents} == {"thinking"}
    for name in ("ponder", "ponder-replica"):
        workload = workloads(documents)[name]
        assert container_of(workload)["image"] == "registry.example.org/ponder:cpu"
        assert container_of(workload)["envFrom"] == [
            {"configMapRef": {"name": of_kind(documents, "ConfigMap")["metadata"]["name"]}}
        ]
        (told, old) = (
            one[name]["spec"]["template"]["metadata"]["annotations"] for one in (workloads(documents), workloads(before))
        )
        assert told != old
    assert of_kind(documents, "ConfigMap")["data"]["PONDER_MODEL"] == "Qwen/Qwen2.5-7B-Instruct"
    assert of_kind(documents, "HorizontalPodAutoscaler", "ponder-replica")["spec"]["maxReplicas"] == 3
    assert "ponder-keys" not in yaml.safe_dump_all(documents)


@pytest.mark.parametrize("wrong", ["replicas.min=3", "replica.tags=cuda", "settings.PONDER_KV_CACHE_GIB=8"])
def test_values_that_mean_nothing_are_refused(wrong: str) -> None:
    """Misspelt names, and numbers where a variable of the environment is a text."""
    done = helm("template", CHART, "--set", wrong)
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr


def test_it_has_the_version_of_what_it_starts() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"] == version
