"""Settings come from the environment and from options, and a wrong one stops the start."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from app.cli import serve, server_process
from app.cli.__main__ import app
from app.settings import ReplicaSettings, Settings, read_settings, reading, whole


@pytest.fixture
def served_with(monkeypatch: pytest.MonkeyPatch):
    """`served_with("--port", "1")`: the settings that `ponder serve --port 1` starts a server with. No server is started."""

    def run(*arguments: str) -> Settings:
        started: list[Settings] = []
        monkeypatch.setattr(server_process, "run_server", lambda settings: started.append(settings) or 0)
        monkeypatch.setattr(serve, "configure_logging", lambda *_: None)
        result = CliRunner().invoke(app, ["serve", *arguments])
        assert result.exit_code == 0, result.output
        return started[0]

    return run


def test_defaults_serve_the_embedded_model_to_this_machine_only() -> None:
    """Without any setting, the embedded model is served on the loopback address."""
    settings = Settings()
    assert (settings.name, settings.host, settings.port) == ("smollm2-135m", "127.0.0.1", 8000)


def test_the_environment_and_options_say_the_same(monkeypatch: pytest.MonkeyPatch, served_with) -> None:
    """An option wins over its variable; keys are separated by commas."""
    monkeypatch.setenv("PONDER_PORT", "9000")
    monkeypatch.setenv("PONDER_API_KEYS", "a, b")
    settings = served_with("--port", "9001", "--model", "/models/some-model", "--no-priorities", "--max-adapter-rank", "32")
    assert settings.api_keys == ("a", "b")
    assert settings.port == 9001
    assert settings.name == "some-model"
    assert settings.priorities is False
    assert settings.max_adapter_rank == 32


def test_plugins_may_be_repeated_or_separated(served_with) -> None:
    """`--plugin` and `--plugins` are the same option."""
    assert served_with("--plugin", "a:A", "--plugins", "b:B,c:C").plugins == ("a:A", "b:B", "c:C")


def test_keys_may_be_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Containers mount secrets as files, Kubernetes behind links. A variable wins over a file."""
    kept = tmp_path / "..kept"
    kept.mkdir()
    (kept / "ponder_api_keys").write_text("a,b\n", encoding="utf-8")
    (tmp_path / "ponder_api_keys").symlink_to("..kept/ponder_api_keys")
    (tmp_path / "ponder_admin_keys").write_text("c", encoding="utf-8")
    (tmp_path / "of_somebody_else").mkdir()
    monkeypatch.setattr(reading, "SECRETS", tmp_path)
    assert read_settings({}).api_keys == ("a", "b")
    monkeypatch.setenv("PONDER_ADMIN_KEYS", "d")
    assert read_settings({}).admin_keys == ("d",)


def test_a_folder_of_secrets_is_optional(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the folder there are no keys, and no error."""
    monkeypatch.setattr(reading, "SECRETS", tmp_path / "none")
    assert read_settings({}).api_keys == ()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_others_are_served_only_with_keys(host: str) -> None:
    """Without keys, only a loopback address may be listened on."""
    with pytest.raises(ValidationError, match="PONDER_API_KEYS"):
        Settings(host=host)
    assert Settings(host=host, api_keys="key").host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_a_loopback_address_needs_no_keys(host: str) -> None:
    """Each spelling of a loopback address is accepted without keys."""
    assert Settings(host=host).host == host


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "many"), ("MAX_N", "0"), ("DTYPE", "int3"), ("MAX_REQUEST_SECONDS", "-1")]
)
def test_a_bad_variable_stops_the_start(name: str, value: str) -> None:
    """The error is one line that names the setting, before anything is loaded."""
    run = subprocess.run(
        [sys.executable, "-m", "app.cli", "serve"],
        env={f"PONDER_{name}": value, "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 1
    assert re.fullmatch(rf"ponder: {name.lower()}: Input should be .+\n", run.stderr)


def test_every_setting_is_an_option_with_a_description() -> None:
    """`ponder serve --help` lists all settings with their variables."""
    run = subprocess.run([sys.executable, "-m", "app.cli", "serve", "--help"], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in run.stdout
        assert f"[env: PONDER_{name.upper()}]" in run.stdout
        assert field.description


@pytest.mark.parametrize(
    "fields", [{"adapter_import_dir": "/no/such/folder"}, {"adapter_preload_dir": "/no/such/folder"}, {"adapter_watch": True}]
)
def test_folders_of_adapters_must_be_there(fields: dict) -> None:
    """A missing folder is an error at the start, not later when an adapter is not found."""
    with pytest.raises(ValidationError, match=r"folder|adapter_preload_dir"):
        Settings(**fields)


ARMO = {"url": "http://10.0.0.5:8001", "route": "classify", "parameters": 7e9, "api_key": "sk-very-secret"}


def test_reward_models_are_a_json_object_by_name(monkeypatch: pytest.MonkeyPatch, served_with) -> None:
    """The variable and the option take the same JSON, with braces and brackets in a template; the key is not shown."""
    template = '[{question}], "{answer}" }{'
    given = json.dumps({"armo": {**ARMO, "template": template}, "prm_2-b": {"url": "https://prm/base/", "route": "pooling"}})
    monkeypatch.setenv("PONDER_REWARD_MODELS", given)
    for settings in (Settings(), served_with("--reward-models", given)):
        armo, prm = settings.reward_models["armo"], settings.reward_models["prm_2-b"]
        assert armo.address == "http://10.0.0.5:8001/classify"
        assert prm.address == "https://prm/base/pooling"
        assert armo.template == template
        assert armo.parameters == 7_000_000_000
        assert armo.api_key is not None
        assert armo.api_key.get_secret_value() == "sk-very-secret"
        assert "sk-very-secret" not in repr(settings)
    assert served_with("--port", "1").reward_models.keys() == {"armo", "prm_2-b"}


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
    """The message names what is wrong, and does not show the key."""
    with pytest.raises(ValidationError, match=fault) as caught:
        Settings(reward_models={name: {**ARMO, **change}})
    assert "sk-very-secret" not in str(caught.value)


@pytest.mark.parametrize("as_option", [True, False])
@pytest.mark.parametrize(
    "given", ['{"armo": {"api_key": "sk-very-secret"', "[]", '{"armo": {"api_key": "sk-very-secret", "rout": 1}}']
)
def test_bad_reward_models_stop_the_start_in_one_line(given: str, as_option: bool) -> None:
    """The error has no traceback and does not show the key, whether it was an option or a variable."""
    run = subprocess.run(
        [sys.executable, "-m", "app.cli", "serve", *(("--reward-models", given) if as_option else ())],
        env={"PATH": ""} if as_option else {"PONDER_REWARD_MODELS": given, "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 1
    assert "reward_models" in run.stderr
    assert run.stderr.count("\n") == 1
    assert "sk-very-secret" not in run.stderr


STORE = "redis://:hidden@valkey:6379/0"


def test_the_url_of_the_shared_state_is_checked_and_never_shown() -> None:
    """It may have a password."""
    for url in ("http://user:hidden@valkey", "redis://", "unix://hidden", "hidden"):
        with pytest.raises(ValidationError) as refusal:
            Settings(shared_state_url=url)
        assert "hidden" not in str(refusal.value)
    for url in (STORE, "rediss://valkey", "unix:///run/valkey.sock?db=1"):
        assert url not in repr(Settings(shared_state_url=url))


def test_front_ends_say_where_they_are_found() -> None:
    assert Settings(port=80).own_url == "http://127.0.0.1:80"
    assert Settings(host="::1").own_url == "http://[::1]:8000"
    assert Settings(advertise_url="https://a.example/ponder/").own_url == "https://a.example/ponder"
    with pytest.raises(ValidationError, match="advertise_url"):
        Settings(host="0.0.0.0", api_keys="k", shared_state_url=STORE)
    assert Settings(host="0.0.0.0", api_keys="k").shared_state_url is None


def test_a_shared_state_needs_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "is_installed", lambda *_: False)
    with pytest.raises(ValidationError, match=r"ponder\[shared\]"):
        Settings(shared_state_url=STORE)


@pytest.mark.parametrize("url", ["http://h:99999", "http://h:0", "http://u:secret@h:1", "http://h/v1", "ftp://h", "http://"])
def test_replicas_are_a_scheme_a_host_and_a_port(url) -> None:
    """What cannot be called is told before the start, without the secrets in it."""
    with pytest.raises(ValidationError) as refusal:
        Settings(replicas=url)
    assert "secret" not in refusal.value.errors()[0]["msg"]
    assert Settings(replicas="http://h:1/,https://g").replicas == ("http://h:1", "https://g")


def test_replicas_are_those_of_ray_or_those_at_urls(monkeypatch) -> None:
    """And Ray must be installed."""
    monkeypatch.setattr(whole, "is_installed", lambda *_: True)
    assert Settings(ray=True).ray
    with pytest.raises(ValidationError, match="ray: the replicas are either"):
        Settings(ray=True, replicas="http://a")
    monkeypatch.setattr(whole, "is_installed", lambda *_: False)
    with pytest.raises(ValidationError, match="not installed"):
        Settings(ray=True)


def test_the_settings_of_a_replica_are_those_of_the_engine_without_keys() -> None:
    """As they were given, also words with spaces and quotes."""
    words = ("--tensor-parallel-size", "2", "--hf-overrides", '{"a": "b c"}')
    given = Settings(
        model="/m", max_branches=7, api_keys="secret", admin_keys="secret", host="0.0.0.0", engine_args=shlex.join(words)
    ).of_replica
    assert "secret" not in repr(given)
    replica = ReplicaSettings(**given)
    assert (replica.model, replica.max_branches, replica.engine_args) == ("/m", 7, words)
