"""Where the programs are that no Python package brings: in `.tools/bin`, where `make tools` puts them, or on the PATH."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def tool(name: str) -> str:
    """The path of a program; without it the test is skipped, except in CI, which has all of them."""
    if (path := shutil.which(name, path=f"{ROOT / '.tools' / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}")) is not None:
        return path
    message = f"there is no {name}: `make tools` brings it"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
