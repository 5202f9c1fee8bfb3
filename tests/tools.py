"""Where the programs are that no Python package brings: in `.tools/bin`, where `make tools` puts them, or on the PATH."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def tool(name: str, *, is_good: Callable[[str], bool] = lambda _: True) -> str:
    """The path of a program, the first that is good enough; without one the test is skipped, except in CI, which has all of them."""
    for folder in (ROOT / ".tools" / "bin", *os.get_exec_path()):
        if (path := shutil.which(name, path=str(folder))) is not None and is_good(path):
            return path
    message = f"there is no {name} that will do: `make tools` brings it"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
