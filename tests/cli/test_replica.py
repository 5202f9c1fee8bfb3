"""`ponder replica`: its options, and what it makes of them; the process itself is in tests/vllm/test_replicas.py."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.option_file import BadOptions
from app.settings import ReplicaSettings, Settings, read_replica_settings, read_settings


def test_its_options_are_those_of_the_server_that_concern_an_engine() -> None:
    """With the same defaults and descriptions."""
    fields = ReplicaSettings.model_fields
    assert (
        {"model", "max_branches", "adapter_slots", "port", "api_keys", "engine_args"}
        <= fields.keys()
        <= Settings.model_fields.keys()
    )
    assert not {"replicas", "policy_dir", "max_tokens", "admin_keys"} & fields.keys()
    for name, field in fields.items():
        assert field.description == Settings.model_fields[name].description


def test_an_open_address_needs_keys() -> None:
    """As of a server."""
    for read in (read_settings, read_replica_settings):
        with pytest.raises(BadOptions, match="PONDER_API_KEYS"):
            read({"host": "0.0.0.0"})
    assert read_replica_settings({"host": "0.0.0.0", "api_keys": "k"}).api_keys == ("k",)


def test_a_file_of_the_server_serves_a_replica_too(tmp_path) -> None:
    """What a replica has no use for is without effect; what is vLLM's goes to vLLM."""
    file = tmp_path / "ponder.yaml"
    file.write_text("model: m\nmax-branches: 5\nmax-responses: 7\nseed: 3\n")
    settings = read_replica_settings({"config": str(file)})
    assert (settings.name, settings.max_branches, settings.engine_args) == ("m", 5, ("--seed", "3"))


def test_a_model_that_is_not_there_is_told_in_one_line() -> None:
    """And ends the command with status 1."""
    command = [Path(sys.executable).parent / "ponder", "replica", "/no/such/folder"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith("ponder: /no/such/folder")
