"""Fixtures of the deployment tests: what overlays render to, and what the application reads and exports."""

import subprocess
from pathlib import Path

import pytest
import yaml
from fastapi.testclient import TestClient

from app.engine.scripted import ScriptedEngine, cycle
from app.main import create_app
from app.settings import Settings
from tests.rendered import FLEETS, FOLDERS, Documents, Render, of_kind
from tests.tools import ROOT, tool


@pytest.fixture(scope="session")
def variables() -> set[str]:
    """Return the names of all environment variables that the server reads."""
    return {f"PONDER_{name.upper()}" for name in Settings.model_fields}


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return the names of the gauges that a server exports when it has just started."""
    folder = tmp_path_factory.mktemp("server")
    settings = Settings(adapter_dir=folder / "adapters", policy_dir=folder / "policies", shipped_adapters=False)
    app = create_app(settings, ScriptedEngine(cycle(["42"])))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        lines = client.get("/metrics").raise_for_status().text.splitlines()
    return {line.split()[2] for line in lines if line.startswith("# TYPE ponder_") and line.endswith(" gauge")}


def _has_new_kustomize(kubectl: str) -> bool:
    """Whether kubectl has a kustomize with components, as it has and says since version 1.24."""
    said = subprocess.run([kubectl, "version", "--client", "--output=yaml"], capture_output=True, text=True)
    return "kustomizeVersion" in said.stdout


@pytest.fixture(scope="session")
def render() -> Render:
    """Return a function that gives the documents `kubectl kustomize` makes of a folder in deploy/kubernetes."""
    kubectl = tool("kubectl", is_good=_has_new_kustomize)

    def rendered(folder: str | Path) -> Documents:
        run = subprocess.run([kubectl, "kustomize", ROOT / "deploy/kubernetes" / folder], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert not run.stderr, "deprecated fields are warned of there"
        return list(yaml.safe_load_all(run.stdout))

    return rendered


@pytest.fixture(params=FOLDERS)
def documents(request: pytest.FixtureRequest, render: Render) -> Documents:
    return render(request.param)


@pytest.fixture(params=FLEETS)
def fleet(request: pytest.FixtureRequest, render: Render) -> Documents:
    return render(request.param)


@pytest.fixture(scope="session")
def example() -> dict:
    """Return the example of the secret that an operator fills in."""
    return yaml.safe_load((ROOT / "deploy/kubernetes/secret.example.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def pod(documents: Documents) -> dict:
    return of_kind(documents, "Deployment")["spec"]["template"]["spec"]


@pytest.fixture
def container(pod: dict) -> dict:
    (only,) = pod["containers"]
    return only
