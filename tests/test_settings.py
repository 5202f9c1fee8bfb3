"""Settings: from the environment and from options, and a bad one stops the start."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from app.settings import Settings


def test_defaults_serve_the_embedded_model_to_this_machine_only() -> None:
    """What a newcomer gets."""
    settings = Settings()
    assert (settings.name, settings.host, settings.port) == ("smollm2-135m", "127.0.0.1", 8000)


def test_the_environment_and_options_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option wins over its variable; keys are separated by commas."""
    monkeypatch.setenv("PONDER_PORT", "9000")
    monkeypatch.setenv("PONDER_API_KEYS", "a, b")
    settings = Settings(
        _cli_parse_args=["--port", "9001", "--model", "/models/some-model", "--no-priorities", "--max-adapter-rank", "32"]
    )
    assert settings.api_keys == ("a", "b")
    assert settings.port == 9001
    assert settings.name == "some-model"
    assert settings.priorities is False
    assert settings.max_adapter_rank == 32


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_others_are_served_only_with_keys(host: str) -> None:
    """Without keys, only a loopback address."""
    with pytest.raises(ValidationError, match="PONDER_API_KEYS"):
        Settings(host=host)
    assert Settings(host=host, api_keys="key").host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_needs_none(host: str) -> None:
    """Loopback addresses."""
    assert Settings(host=host).host == host


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "many"), ("MAX_N", "0"), ("DTYPE", "int3"), ("MAX_REQUEST_SECONDS", "-1")]
)
def test_a_bad_variable_stops_the_start(name: str, value: str) -> None:
    """In one line that names it, before anything is loaded."""
    run = subprocess.run(
        [sys.executable, "-m", "app.cli", "serve"],
        env={f"PONDER_{name}": value, "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode != 0
    assert name.lower() in run.stderr
    assert "Traceback" not in run.stderr


def test_every_setting_is_an_option_with_a_description() -> None:
    """`ponder serve --help` lists them all."""
    run = subprocess.run([sys.executable, "-m", "app.cli", "serve", "--help"], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in run.stdout
        assert field.description


@pytest.mark.parametrize(
    "fields", [{"adapter_import_dir": "/no/such/folder"}, {"adapter_preload_dir": "/no/such/folder"}, {"adapter_watch": True}]
)
def test_folders_of_adapters_must_be_there(fields: dict) -> None:
    """Told at the start, not when the first adapter is missed."""
    with pytest.raises(ValidationError, match=r"folder|adapter_preload_dir"):
        Settings(**fields)
