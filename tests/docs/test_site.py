"""The site is built strictly, and a browser loads nothing from elsewhere to show it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools import ROOT

_LOADED = re.compile(
    r"""<(?:script|img|iframe|source)[^>]*\ssrc=["']?(?:https?:)?//[^"' >]+|<link[^>]*\shref=["']?(?:https?:)?//[^"' >]+"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site. A broken link or anchor, or a page without a place in the navigation, ends the build."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


def test_it_needs_no_network(site) -> None:
    """No script, picture, font or style sheet comes from another host."""
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    assert not {match for page in pages for match in _LOADED.findall(page.read_text(encoding="utf-8"))}
    styles = [text for path in site.rglob("*.css") for text in re.findall(r"url\(([^)]*)\)|@import ([^;]*);", path.read_text())]
    assert not [text for text in styles if "//" in "".join(text) and "data:" not in "".join(text)]
