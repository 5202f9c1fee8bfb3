"""Fixtures of the deployment tests: what overlays render to, and what the application reads and exports."""

import pytest
import yaml
from fastapi.testclient import TestClient

from app.engine.scripted import ScriptedEngine, cycle
from app.main import create_app
from app.settings import Settings
from tests.rendered import FLEETS, FOLDERS, Documents, Render, rendered
from tests.tools import ROOT


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


@pytest.fixture(scope="session")
def render() -> Render:
    """Return a function that gives the documents `kubectl kustomize` makes of a folder in deploy/kubernetes."""
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
