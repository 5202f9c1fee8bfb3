"""deploy/kubernetes: the overlays render to valid documents that fit together and fit the application."""

import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import kubernetes_validate
import pytest

from app.settings import Settings
from tests.rendered import OPERATOR, Documents, Render, of_kind
from tests.tools import ROOT

KUBERNETES = ("1.29", "1.37")
LABELS = {"app.kubernetes.io/name": "ponder"}


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


def test_labels_and_ports_match(documents: Documents, pod: dict, container: dict) -> None:
    """This holds for everything that selects the pods, or the port by its name."""
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


@pytest.mark.anyio
async def test_what_is_asked_for_is_served(render: Render, serve: Callable[..., AbstractAsyncContextManager]) -> None:
    """Probes and the scraper use routes that exist."""
    documents = render("overlays/fleet")
    (container,) = of_kind(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    paths = {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    (endpoint,) = of_kind(documents, "ServiceMonitor")["spec"]["endpoints"]
    async with serve() as served:
        for path in (*paths, endpoint["path"]):
            assert (await served.client.get(path)).status_code == 200


@pytest.mark.parametrize("folder", ["overlays/gpu", "overlays/fleet-gpu"])
def test_the_gpu_is_asked_for(render: Render, folder: str) -> None:
    """The image is the one for GPUs."""
    (container,) = of_kind(render(folder), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "ponder:cuda"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_documentation_shows_an_overlay_that_renders(tmp_path: Path, render: Render) -> None:
    """Its image and its setting replace ours, and everything else stays."""
    shown = (ROOT / "docs/operate/deployment.md").read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    deploy = os.path.relpath((ROOT / "deploy").resolve(), tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(shown.replace("../deploy", deploy), encoding="utf-8")
    documents = render(str(tmp_path))
    (container,) = of_kind(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    config = of_kind(documents, "ConfigMap")["data"]
    assert container["image"] == "registry.example.org/ponder:cuda"
    assert (config["PONDER_MODEL"], config["PONDER_DRAIN_SECONDS"]) == ("Qwen/Qwen2.5-7B-Instruct", "620")
