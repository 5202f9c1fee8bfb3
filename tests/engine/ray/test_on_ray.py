"""Runs the tests on a real Ray Serve, those of `on_ray.py`."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.tools import ROOT


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (locks/ray.txt)")
def test_on_a_real_ray(tmp_path) -> None:
    """In a process of its own: Ray reads its environment when it is imported, and vLLM, which other tests import, imports it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--no-cov",
        "-q",
        "-p",
        "no:cacheprovider",
        "--basetemp",
        str(tmp_path / "on-ray"),
    ]
    ran = subprocess.run(
        [*command, "tests/engine/ray/on_ray.py"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
