"""What the tests of deployment share: the programs that read it, and what the application knows of itself."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from app.admission import Admission
from app.metering.metrics import Metrics
from app.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def variables() -> set[str]:
    """All that the server reads."""
    return {f"PONDER_{name.upper()}" for name in Settings.model_fields}


@pytest.fixture(scope="session")
def exported() -> set[str]:
    """The gauges of a server that has just started."""
    metrics = Metrics()
    metrics.watch(Admission(num_slots=1, max_branches=1, max_branches_per_key=1))
    text = metrics.page.render().decode()
    return {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE") and line.endswith("gauge")}


def _has_new_kustomize(kubectl: str) -> bool:
    """Since 1.24 the program says so; one without components is of no use."""
    said = subprocess.run([kubectl, "version", "--client", "--output=yaml"], capture_output=True, text=True)
    return "kustomizeVersion" in said.stdout


@pytest.fixture(scope="session")
def render() -> Callable[[str], list[dict]]:
    """The documents that `kubectl kustomize` makes of a folder in deploy/kubernetes."""
    candidates = [str(ROOT / ".tools/bin/kubectl"), shutil.which("kubectl")]
    kubectl = next((path for path in candidates if path and Path(path).exists() and _has_new_kustomize(path)), None)
    if kubectl is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no kubectl of 1.24 or later: `make tools`")

    def rendered(folder: str) -> list[dict]:
        run = subprocess.run([kubectl, "kustomize", ROOT / "deploy/kubernetes" / folder], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert not run.stderr, "deprecated fields are warned of there"
        return list(yaml.safe_load_all(run.stdout))

    return rendered
