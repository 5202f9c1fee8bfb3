"""The example of a plugin: installed and found by its entry points, or named by an operator; and its own tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[2] / "examples" / "plugin"

ASK = """
import sys, ponder
settings = {"adapter_dir": sys.argv[1], "policy_dir": sys.argv[1], "shipped_adapters": False}
engine = ponder.ScriptedEngine(ponder.cycle(["It is blue, as I see it.", "Blue."]))
with ponder.Ponder(engine=engine, **settings) as model:
    answer = model.ask("Name a colour.", strategy="first_good", verifier={"brief": 1})
    best = model.ask("Name a colour.", strategy="best_of_n", n=2, verifier={"brief": 1})
print(answer.text, answer.stop_reason, best.text)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, as pip installs it."""
    folder = tmp_path_factory.mktemp("plugin")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run([*pip, "--target", folder, PLUGIN], check=True, capture_output=True, timeout=300)
    return folder


def python(path: Path, *arguments: str | Path, **variables: str) -> str:
    """What Python prints with this folder on its path."""
    environment = {**os.environ, "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1", **variables}
    run = subprocess.run([sys.executable, *arguments], cwd=path, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_it_is_found_by_its_entry_points(installed, tmp_path) -> None:
    """Nobody names it: to be installed is enough."""
    assert python(installed, "-c", ASK, tmp_path).split() == ["Blue.", "settled", "Blue."]


def test_an_operator_may_name_it(tmp_path) -> None:
    """Not installed, but on the path: what `--plugin` sets, by its variable."""
    plugins = "ponder_example.strategy:FirstGood,ponder_example.verifier:Brief"
    assert python(PLUGIN, "-c", ASK, tmp_path, PONDER_PLUGINS=plugins).split() == ["Blue.", "settled", "Blue."]


def test_its_own_tests_pass(installed) -> None:
    """Those that its authors would run."""
    arguments = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", PLUGIN, PLUGIN / "tests")
    assert "4 passed" in python(installed, *arguments)
