"""What is no model is refused before vLLM is imported."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.engine.weights.conversions import ModelUnavailable
from app.engine.weights.model_folder import check_model


def folder(path: Path, config: Any) -> str:
    """A model's folder with this config.json."""
    text = config if isinstance(config, str) else json.dumps(config)
    (path / "config.json").write_text(text)
    return str(path)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2},
        {"model_type": "gpt2", "n_embd": 64, "n_layer": 2},
        # The text part of this one is what the defaults of its type say, as with LLaVA 1.5.
        {"model_type": "llava", "text_config": {"model_type": "llama"}},
    ],
)
def test_a_model_is_taken(tmp_path: Path, config: dict[str, Any]) -> None:
    """A folder with sizes in its config."""
    check_model(folder(tmp_path, config))


def test_what_is_not_here_may_be_on_the_hub(tmp_path: Path) -> None:
    """A folder without a config.json is left to vLLM, which knows models of other forms."""
    check_model("owner/name")
    check_model(str(tmp_path))


@pytest.mark.parametrize("model", ["/nowhere/at-all", "./nowhere", "~/nowhere", "models/tiny.gguf"])
def test_a_path_at_which_nothing_is(model: str) -> None:
    """The hub is not asked for a path."""
    with pytest.raises(ModelUnavailable, match=f"{model}: there is no such f"):
        check_model(model)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, "names no usable sizes"),
        ({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}, "names no usable sizes"),
        ([], "names no usable sizes"),
        (7, "names no usable sizes"),
        *(
            ({"hidden_size": 64, "num_hidden_layers": size}, "names no usable sizes")
            for size in (0, -1, 10**30, "2", True, 0.5, [])
        ),
        ({"hidden_size": float("nan")}, "names no usable sizes"),
        ({"text_config": "llama"}, "names no usable sizes"),
        ({"text_config": [1], "llm_config": 5}, "names no usable sizes"),
        ("{", "its config.json is no JSON"),
        ('{"a":' * 100_000, "its config.json is no JSON"),
        ('{"a": ' + "1" * 5000 + "}", "its config.json is no JSON"),
        ("\x00", "its config.json is no JSON"),
    ],
)
def test_a_config_that_describes_no_model(tmp_path: Path, config: Any, expected: str) -> None:
    """Transformers would fill sizes in: those of the largest model of the type."""
    with pytest.raises(ModelUnavailable, match=expected):
        check_model(folder(tmp_path, config))


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"GGUF\x03\x00", "pip install vllm-gguf-plugin"), (b"PK\x03\x04", "unknown format"), (b"", "unknown")],
)
def test_files(tmp_path: Path, content: bytes, expected: str) -> None:
    """A plugin of vLLM may read GGUF files; vLLM 0.32 itself reads folders only."""
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(ModelUnavailable, match=expected):
        check_model(str(path))
