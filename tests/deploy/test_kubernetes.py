"""deploy/kubernetes: the overlays render to valid documents that fit together and fit the application."""

import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import kubernetes_validate
import pytest

from app.settings import Settings
from tests.rendered import OPERATOR, Documents, Render, container_of, matches, of_kind, workloads
from tests.tools import ROOT

KUBERNETES = ("1.29", "1.37")
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


@pytest.mark.parametrize("version", KUBERNETES)
def test_documents_are_valid(documents: Documents, example: dict, version: str) -> None:
    """They have no unknown field, in the oldest and the newest version of Kubernetes whose schemas are here."""
    for document in [*documents, example]:
        if document["apiVersion"] != OPERATOR:  # test_operator.py has those
            kubernetes_validate.validate(document, version, strict=True)


def test_all_is_in_one_namespace(documents: Documents) -> None:
    """The namespace admits only pods of the restricted Pod Security Standard."""
    namespace = of_kind(documents, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {document["metadata"].get("namespace") for document in documents if document is not namespace} == {"ponder"}


def test_labels_and_ports_match(documents: Documents) -> None:
    """This holds for everything that selects pods, or a port by its name: each name stands for one kind of pod."""
    for name, workload in workloads(documents).items():
        labels = workload["spec"]["template"]["metadata"]["labels"]
        (port,) = container_of(workload)["ports"]
        service = of_kind(documents, "Service", name)["spec"]
        (service_port,) = service["ports"]
        assert labels == workload["spec"]["selector"]["matchLabels"] == service["selector"] == {"app.kubernetes.io/name": name}
        assert port["containerPort"] == service_port["port"]
        assert port["name"] == service_port["targetPort"] == service_port["name"]
        asked = [container_of(workload)[probe] for probe in PROBES]
        assert {probe["httpGet"]["port"] for probe in asked if "httpGet" in probe} <= {port["name"]}
        closed = [
            one["spec"] for one in documents if one["kind"] == "NetworkPolicy" and "Ingress" in one["spec"]["policyTypes"]
        ]
        assert [one["ingress"][0]["ports"] for one in closed if matches(one["podSelector"], labels)] == [
            [{"port": port["name"]}]
        ]


def test_few_servers_are_moved_at_once(documents: Documents) -> None:
    """All servers have a budget of disruptions. A store alone needs none: it comes back, and front ends serve on meanwhile."""
    budgets = {one["metadata"]["name"]: one["spec"] for one in documents if one["kind"] == "PodDisruptionBudget"}
    assert set(budgets) == set(workloads(documents)) - {"ponder-valkey"}
    for name, budget in budgets.items():
        assert budget == {"maxUnavailable": 1, "selector": workloads(documents)[name]["spec"]["selector"]}


def test_the_server_listens_where_it_is_looked_for(documents: Documents) -> None:
    (port,) = container_of(of_kind(documents, "Deployment"))["ports"]
    assert (port["name"], port["containerPort"]) == ("http", Settings().port)


@pytest.mark.anyio
async def test_what_is_asked_for_is_served(render: Render, serve: Callable[..., AbstractAsyncContextManager]) -> None:
    """Probes of servers and the scraper use routes that exist. Those of replicas are asked in tests/vllm/test_pods.py."""
    documents = render("overlays/fleet")
    container = container_of(of_kind(documents, "Deployment"))
    (endpoint,) = of_kind(documents, "ServiceMonitor")["spec"]["endpoints"]
    async with serve() as served:
        for path in (*(container[probe]["httpGet"]["path"] for probe in PROBES), endpoint["path"]):
            assert (await served.client.get(path)).status_code == 200


@pytest.mark.parametrize(("folder", "name"), [("overlays/gpu", "ponder"), ("overlays/fleet-gpu", "ponder-replica")])
def test_the_gpu_is_asked_for(render: Render, folder: str, name: str) -> None:
    """What generates tokens has the image for GPUs, and nothing else has one."""
    for one, workload in workloads(render(folder)).items():
        container = container_of(workload)
        assert container["resources"]["limits"].get("nvidia.com/gpu") == ("1" if one == name else None)
        assert (container["image"] == "ponder:cuda") is (one == name)


@pytest.mark.parametrize("folder", ["overlays/gpu", "overlays/fleet-gpu"])
def test_the_documentation_shows_an_overlay_that_renders(tmp_path: Path, render: Render, folder: str) -> None:
    """Its image and its setting replace ours, on front ends and replicas alike, and everything else stays."""
    shown = (ROOT / "docs/operate/deployment.md").read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    deploy = os.path.relpath((ROOT / "deploy").resolve(), tmp_path.resolve())
    shown = shown.replace("../deploy", deploy).replace("overlays/gpu", folder)
    (tmp_path / "kustomization.yaml").write_text(shown, encoding="utf-8")
    documents = render(str(tmp_path))
    images = {container_of(one)["image"] for one in workloads(documents).values() if container_of(one)["name"] != "valkey"}
    config = of_kind(documents, "ConfigMap")["data"]
    assert images == {
        f"registry.example.org/ponder:{tag}" for tag in ({"cuda"} if folder == "overlays/gpu" else {"cpu", "cuda"})
    }
    assert (config["PONDER_MODEL"], config["PONDER_DRAIN_SECONDS"]) == ("Qwen/Qwen2.5-7B-Instruct", "620")
