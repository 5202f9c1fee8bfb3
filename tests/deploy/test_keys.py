"""deploy/compose/keys.sh: the secrets of docker-compose.yml, made once."""

import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from app.settings import read_replica_settings, read_settings, reading
from tests.tools import ROOT

GIVEN = ("ponder_api_keys", "ponder_admin_keys", "ponder_admin_key", "grafana_admin_password")
FILES = (*GIVEN, "replica_api_key", "valkey_password")
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
    assert len(set(first.values())) == len(FILES) - 1
    assert first["ponder_admin_key"] == first["ponder_admin_keys"]
    assert not any(secret in said for secret in first.values())
    run()
    assert read(tmp_path) == first
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((*FILES, "front-end.yml", "replica.yml"))


def test_what_is_given_takes_their_place(run: Run, tmp_path: Path) -> None:
    """It stays when it is no longer given. Prometheus sends one key, the first."""
    run()
    run(PONDER_API_KEYS="a,b", PONDER_ADMIN_KEYS="c, d", GRAFANA_ADMIN_PASSWORD="e f")
    given = read(tmp_path)
    assert {name: given[name] for name in GIVEN} == dict(zip(GIVEN, ("a,b", "c, d", "c", "e f"), strict=True))
    run()
    assert read(tmp_path) == given


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
    """Prometheus owns them, servers and the store are in their group, and Grafana can read its password alone."""
    run()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(modes, 0o440) | {"grafana_admin_password": 0o444}


def test_the_server_takes_them(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that others can reach reads its keys from the files."""
    run(PONDER_ADMIN_KEYS="c, d")
    monkeypatch.setattr(reading, "SECRETS", tmp_path)
    settings = read_settings({"host": "0.0.0.0"})
    assert settings.api_keys == (read(tmp_path)["ponder_api_keys"],)
    assert settings.admin_keys == ("c", "d")
    assert settings.shared_state_url is None, "a server alone has no store"


def test_front_ends_and_replicas_take_theirs(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica knows none of the clients' keys, also where they are in ponder.env."""
    run()
    monkeypatch.setattr(reading, "SECRETS", tmp_path)
    made = read(tmp_path)
    front_end = read_settings({"host": "0.0.0.0", "advertise_url": "http://a:8000", "config": str(tmp_path / "front-end.yml")})
    monkeypatch.setenv("PONDER_API_KEYS", "")  # as docker-compose.yml has it for replicas
    replica = read_replica_settings({"host": "0.0.0.0", "config": str(tmp_path / "replica.yml")})
    assert front_end.api_keys == (made["ponder_api_keys"],)
    assert front_end.replica_api_key.get_secret_value() == made["replica_api_key"]
    assert replica.api_keys == (made["replica_api_key"],)
    assert front_end.shared_state_url == f"redis://:{made['valkey_password']}@valkey:6379/0"
