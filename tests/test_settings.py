"""Settings: from the environment and from options, and a bad one stops the start."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from app import settings as settings_module
from app.settings import Settings, read_settings


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


def test_keys_may_be_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As containers are given secrets, in links as Kubernetes makes them; a variable wins over a file."""
    kept = tmp_path / "..kept"
    kept.mkdir()
    (kept / "ponder_api_keys").write_text("a,b\n", encoding="utf-8")
    (tmp_path / "ponder_api_keys").symlink_to("..kept/ponder_api_keys")
    (tmp_path / "ponder_admin_keys").write_text("c", encoding="utf-8")
    (tmp_path / "of_somebody_else").mkdir()
    monkeypatch.setattr(settings_module, "SECRETS", tmp_path)
    assert read_settings([]).api_keys == ("a", "b")
    monkeypatch.setenv("PONDER_ADMIN_KEYS", "d")
    assert read_settings([]).admin_keys == ("d",)


def test_without_a_folder_of_secrets_nothing_is_missed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Most machines have none."""
    monkeypatch.setattr(settings_module, "SECRETS", tmp_path / "none")
    assert read_settings([]).api_keys == ()


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


ARMO = {"url": "http://10.0.0.5:8001", "route": "classify", "parameters": 7e9, "api_key": "sk-very-secret"}


def test_reward_models_are_a_json_object_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the variable or the option, braces and brackets in the template included; the key is not shown."""
    template = '[{question}], "{answer}" }{'
    given = json.dumps({"armo": {**ARMO, "template": template}, "prm_2-b": {"url": "https://prm/base/", "route": "pooling"}})
    monkeypatch.setenv("PONDER_REWARD_MODELS", given)
    for settings in (Settings(), Settings(_cli_parse_args=["--reward-models", given])):
        armo, prm = settings.reward_models["armo"], settings.reward_models["prm_2-b"]
        assert armo.address == "http://10.0.0.5:8001/classify"
        assert prm.address == "https://prm/base/pooling"
        assert armo.template == template
        assert armo.parameters == 7_000_000_000
        assert armo.api_key is not None
        assert armo.api_key.get_secret_value() == "sk-very-secret"
        assert "sk-very-secret" not in repr(settings)
    assert Settings(_cli_parse_args=["--port", "1"]).reward_models.keys() == {"armo", "prm_2-b"}


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        ("Armo", {}, "pattern"),
        ("", {}, "pattern"),
        ("a" * 65, {}, "pattern"),
        ("armo\n", {}, "pattern"),
        ("armo", {"url": "ftp://10.0.0.5"}, "scheme"),
        ("armo", {"url": "http://"}, "url"),
        ("armo", {"url": "10.0.0.5:8001"}, "url"),
        ("armo", {"url": "http://user:sk-very-secret@10.0.0.5"}, "no user and no password"),
        ("armo", {"url": "http://10.0.0.5/?key=sk-very-secret"}, "no query"),
        ("armo", {"route": "embed"}, "classify"),
        ("armo", {"colour": "red"}, "colour"),
        ("armo", {"api_key": "sk-very-secret\n"}, "visible ASCII"),
        ("armo", {"parameters": 0}, "greater than 0"),
        ("armo", {"timeout_seconds": "NaN"}, "timeout_seconds"),
        ("armo", {"retries": 11}, "retries"),
        ("armo", {"template": "{question}"}, "template"),
        ("armo", {"route": "score", "template": "{answer}"}, "template means nothing"),
        ("armo", {"route": "pooling", "label_index": 0}, "label_index means nothing"),
    ],
)
def test_a_bad_reward_model_stops_the_start(name: str, change: dict, fault: str) -> None:
    """With a message that names what is wrong, and not the key."""
    with pytest.raises(ValidationError, match=fault) as caught:
        Settings(reward_models={name: {**ARMO, **change}})
    assert "sk-very-secret" not in str(caught.value)


@pytest.mark.parametrize("given", ['{"armo": {"url": ', "[]", '{"armo": {"api_key": "sk-very-secret", "rout": 1}}'])
def test_the_start_tells_of_bad_reward_models_in_one_line(given: str) -> None:
    """Without a traceback and without the key."""
    run = subprocess.run(
        [sys.executable, "-m", "app.cli", "serve"],
        env={"PONDER_REWARD_MODELS": given, "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode != 0
    assert "reward_models" in run.stderr
    assert "Traceback" not in run.stderr
    assert "sk-very-secret" not in run.stderr
