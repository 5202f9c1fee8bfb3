"""The service's side of the ports of training: servers for teachers, and FLOPs by the server's arithmetic."""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters.training.ports import BatchPass
from app.engine.architecture import Architecture
from app.lab.training.environment import flops_counter, serve_teacher


@pytest.fixture
def started(monkeypatch) -> list[dict[str, str]]:
    """The options of each server that is started; none of them runs."""
    found = []

    @contextmanager
    def running(command: list[str], ready: str, _log: Path, environment: dict[str, str]) -> Iterator[int]:
        options = command[command.index("--model") :]
        values = {name: value for name, value in itertools.pairwise(options) if name.startswith("--")}
        preloaded = Path(values.get("--adapter-preload-dir", "/nowhere"))
        names = sorted(place.name for place in preloaded.iterdir()) if preloaded.is_dir() else []
        found.append({**values, "ready": ready, "key": environment["PONDER_API_KEYS"], "adapters": names})
        yield 1

    monkeypatch.setattr("app.lab.server.running", running)
    return found


def test_a_teacher_without_an_adapter_is_the_base_of_its_server(started, tmp_path):
    with serve_teacher("some/model", None, tmp_path / "server.log") as address:
        assert address.model == "base"
    [server] = started
    assert server["--model"] == "some/model"
    assert server["--model-name"] == "base"
    assert server["ready"] == f"{address.url}/ready"
    assert address.key == server["key"]
    assert address.key not in repr(address)


def test_a_teacher_with_an_adapter_is_served_as_that(started, tmp_path):
    adapter = tmp_path / "solver"
    adapter.mkdir()
    config = {"peft_type": "LORA", "r": 24, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with serve_teacher("some/model", adapter, tmp_path / "server.log") as address:
        assert address.model == "student"
    [server] = started
    assert server["adapters"] == ["student"]
    assert server["--max-adapter-rank"] == "32"


def test_training_is_charged_by_the_server_s_arithmetic():
    config = {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 100,
    }  # fmt: skip
    batch = BatchPass(tokens=10, attention_pairs=55, logit_rows=4, recomputed_logit_rows=4, has_backward=True)
    expected = Architecture.from_config(config).with_lora(500)
    found = flops_counter(config, 500, False)(batch)
    assert found == expected.training_pass(10, 55, 4, rows_again=4, learns=True, trains_all=False)
    assert found < flops_counter(config, None, False)(batch)
