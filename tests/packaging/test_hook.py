"""What the build hook rewrites in a module, and what it leaves."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "scripts" / "hatch_build.py")
hatch_build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hatch_build)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from app.x import y", "from ponder.app.x import y"),
        ("from app import x as y", "from ponder.app import x as y"),
        (
            "from  strategies.core.values import (\n    Task,\n)\n",
            "from  ponder.strategies.core.values import (\n    Task,\n)\n",
        ),
        ("def f():\n\tfrom adapters import x\n", "def f():\n\tfrom ponder.adapters import x\n"),
        ("import os, app.x as x, adapters as y", "import os, ponder.app.x as x, ponder.adapters as y"),
        ("'é'; from app import x; from app import y", "'é'; from ponder.app import x; from ponder.app import y"),
        ("if x:\r\n    from app import y\r\n", "if x:\r\n    from ponder.app import y\r\n"),
    ],
)
def test_import_statements_are_mapped(before: str, after: str) -> None:
    assert hatch_build.rewrite(before) == after


@pytest.mark.parametrize(
    "source",
    [
        "'''\nfrom app.x import y\n'''\n# from app.x import y\n",
        "from . import app\nfrom .app import x\nfrom application import y\nimport apps\n",
        "app = adapters.app\nfrom fastapi import FastAPI as app\n",
    ],
)
def test_everything_else_stays(source: str) -> None:
    assert hatch_build.rewrite(source) == source


@pytest.mark.parametrize("source", ["import app.x", "import os, adapters", "from \\\n    app import x"])
def test_what_would_bind_another_name_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="line"):
        hatch_build.rewrite(source)


def test_an_editable_installation_is_the_checkout_itself(tmp_path: Path) -> None:
    """One line for the path, and no copy of a module."""
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run([*pip, "--target", tmp_path, "--editable", ROOT], check=True, capture_output=True, timeout=300)
    assert {path.name for path in tmp_path.iterdir() if "dist-info" not in path.name} == {"_ponder.pth", "bin"}
    assert (tmp_path / "_ponder.pth").read_text().strip() == str(ROOT)
