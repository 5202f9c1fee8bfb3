"""Options of vLLM's engine beside ponder's own: on the command line, in the environment, and in a file."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.engine_options import split_options
from app.option_file import BadOptions
from app.settings import Settings, read_settings

KNOWN = ("--port", "--max-branches", "--playground", "--no-playground")


@pytest.mark.parametrize(
    ("line", "own", "engine"),
    [
        ("", "", ""),
        ("model --port 1", "model --port 1", ""),
        ("model --tensor-parallel-size 2 --port 1", "model --port 1", "--tensor-parallel-size 2"),
        ("model -tp 2 -O3 --no-playground", "model --no-playground", "-tp 2 -O3"),
        ("model --seed=-1 --max_branches=4", "model --max-branches=4", "--seed=-1"),
        ("model --kv_cache_memory_bytes -1", "model", "--kv_cache_memory_bytes -1"),
        ("model --middleware a b --enable-expert-parallel", "model", "--middleware a b --enable-expert-parallel"),
        ("model --compilation-config.pass_config.x 1", "model", "--compilation-config.pass_config.x 1"),
    ],
)
def test_unknown_options_are_the_engines(line: str, own: str, engine: str) -> None:
    """With all words up to the next option; names are taken with dashes or underscores."""
    assert split_options(line.split(), KNOWN) == (own.split(), engine.split())


def read(tmp_path: Path, text: str, **given: str) -> Settings:
    """The settings of a file and of the options of the command line."""
    file = tmp_path / "server.yaml"
    file.write_text(text, encoding="utf-8")
    return read_settings({"config": str(file), **given})


FILE = """
model: Qwen/Qwen3-8B
port: 8123
cors-origins: [https://a.example, https://b.example]
tensor-parallel-size: 2
enable_expert_parallel: true
enable-prefix-caching: false
speculative-config: {method: ngram}
"""


def test_a_file_has_options_of_both(tmp_path: Path) -> None:
    """Lists, tables and switches become words of vLLM's command line."""
    settings = read(tmp_path, FILE)
    assert (settings.model, settings.port) == ("Qwen/Qwen3-8B", 8123)
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.engine_args == (
        "--tensor-parallel-size", "2", "--enable-expert-parallel", "--no-enable-prefix-caching",
        "--speculative-config", json.dumps({"method": "ngram"}),
    )  # fmt: skip


def test_the_command_line_and_the_environment_win_over_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """VLLM takes the last of several equal options."""
    monkeypatch.setenv("PONDER_PORT", "8124")
    monkeypatch.setenv("PONDER_ENGINE_ARGS", "--seed 3")
    settings = read(tmp_path, FILE, model="other")
    assert (settings.model, settings.port, settings.engine_args[-2:]) == ("other", 8124, ("--seed", "3"))
    settings = read(tmp_path, FILE, port="8125", engine_args="--seed 4 --hf-overrides '{\"a\": 1}'")
    assert (settings.port, settings.engine_args[-4:]) == (8125, ("--seed", "4", "--hf-overrides", '{"a": 1}'))
    assert settings.engine_args[:2] == ("--tensor-parallel-size", "2")


def test_the_environment_may_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.yaml").write_text("max-branches: 3", encoding="utf-8")
    monkeypatch.setenv("PONDER_CONFIG", str(tmp_path / "c.yaml"))
    assert read_settings({}).max_branches == 3


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: [", "cannot be read"), ("- model", "no table"), ("1: 2", "no table"), ("port: x", "port"), ("\x00", "cannot be read"),
        ("a: &a {b: *a}", "alias"), ("a: &a [1]\nb: [*a, *a]", "alias"), ("a: " + "[" * 5000, "cannot be read"),
        ("a: " + "1" * 5000, "cannot be read"), ("a: 2020-99-99", "cannot be read"), ("a: !!python/object:os.system x", "cannot be read"),
        ("a: {b: 2020-01-01}", "a: .*not JSON"), ("max-model-len: 1\nmax_model_len: 2", "twice"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(BadOptions, match=fault):
        read(tmp_path, text)
    with pytest.raises(BadOptions, match="cannot be read"):
        read_settings({"config": str(tmp_path / "none.yaml")})


def test_serve_hands_them_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The options arrive at the engine in the words of the command line."""
    from app.cli import server_process
    from app.cli.__main__ import app

    seen: list[Settings] = []
    monkeypatch.setattr(server_process, "run_server", lambda settings: seen.append(settings) or 0)
    result = CliRunner().invoke(
        app, ["serve", "some/model", "--tensor-parallel-size", "2", "--port", "1", "--hf-overrides", '{"a": "b c"}']
    )
    assert result.exit_code == 0, result.output
    assert (seen[0].model, seen[0].port) == ("some/model", 1)
    assert seen[0].engine_args == ("--tensor-parallel-size", "2", "--hf-overrides", '{"a": "b c"}')
