"""deploy/compose/keys.sh: the secrets of docker-compose.yml, made once."""

import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from app import settings as settings_module
from app.settings import read_settings
from tests.tools import ROOT

FILES = ("ponder_api_keys", "ponder_admin_keys", "ponder_admin_key", "grafana_admin_password")
Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that runs the script with these variables in the folder of the secrets, and returns its output."""

    def ran(**environment: str) -> str:
        command = ["sh", ROOT / "deploy/compose/keys.sh"]
        given = {"PATH": "/usr/bin:/bin", **environment}
        return subprocess.run(command, cwd=tmp_path, env=given, check=True, capture_output=True, text=True).stdout

    return ran


def read(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text(encoding="ascii") for name in FILES}


def test_they_are_random_and_stay(run: Run, tmp_path: Path) -> None:
    """The scraper's key is the administrator's, and no key is printed."""
    said = run()
    first = read(tmp_path)
    assert {len(secret) for secret in first.values()} == {43}
    assert len(set(first.values())) == 3
    assert first["ponder_admin_key"] == first["ponder_admin_keys"]
    assert not any(secret in said for secret in first.values())
    run()
    assert read(tmp_path) == first
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)


def test_what_is_given_takes_their_place(run: Run, tmp_path: Path) -> None:
    """It stays when it is no longer given. Prometheus sends one key, the first."""
    run()
    run(PONDER_API_KEYS="a,b", PONDER_ADMIN_KEYS="c, d", GRAFANA_ADMIN_PASSWORD="e f")
    assert read(tmp_path) == dict(zip(FILES, ("a,b", "c, d", "c", "e f"), strict=True))
    run()
    assert read(tmp_path) == dict(zip(FILES, ("a,b", "c, d", "c", "e f"), strict=True))


@pytest.mark.parametrize("given", [",foo", " , foo ,bar", "foo,"])
def test_the_scrapers_key_is_the_first_that_is_one(run: Run, tmp_path: Path, given: str) -> None:
    """The server ignores empty keys too."""
    run(PONDER_ADMIN_KEYS=given)
    assert read(tmp_path)["ponder_admin_key"] == "foo"


def test_without_any_key_nothing_starts(run: Run) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        run(PONDER_ADMIN_KEYS=" , ")
    assert "PONDER_ADMIN_KEYS has no key in it" in refusal.value.stderr


def test_nobody_else_may_read_them(run: Run, tmp_path: Path) -> None:
    """Prometheus owns them, the server is in their group, and Grafana can read its password alone."""
    run()
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in FILES}
    assert modes == dict.fromkeys(FILES, 0o440) | {"grafana_admin_password": 0o444}


def test_the_server_takes_them(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that others can reach reads its keys from the files."""
    run(PONDER_ADMIN_KEYS="c, d")
    monkeypatch.setattr(settings_module, "SECRETS", tmp_path)
    settings = read_settings({"host": "0.0.0.0"})
    assert settings.api_keys == (read(tmp_path)["ponder_api_keys"],)
    assert settings.admin_keys == ("c", "d")
