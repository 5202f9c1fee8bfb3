"""Eight-bit weights: converted weights stay close to the originals, and what cannot be served is refused before loading."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.engine.build import engine_options
from app.engine.weights import int8
from app.engine.weights.conversions import STAGING_FOLDER, ModelUnavailable
from app.settings import Settings

LAYER = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture
def model(tmp_path: Path):
    def make(*, is_tied: bool = True, config: dict | None = None, **more: torch.Tensor) -> Path:
        folder = tmp_path / "small"
        folder.mkdir()
        torch.manual_seed(0)
        weights = {LAYER: torch.randn(8, 16, dtype=torch.bfloat16), "model.embed_tokens.weight": torch.randn(32, 16)}
        weights |= {"model.norm.weight": torch.ones(16)} | more
        save_file(weights, folder / "model.safetensors")
        (folder / "config.json").write_text(
            json.dumps({"model_type": "llama", "tie_word_embeddings": is_tied} | (config or {}))
        )
        (folder / "tokenizer.json").write_text("{}")
        return folder

    return make


def converted(folder: Path, tmp_path: Path) -> Path:
    return int8.ensure_int8(folder, tmp_path / "cache", lambda _line: None)


def test_linear_layers_become_bytes_with_a_scale_for_each_row(model, tmp_path):
    folder = model()
    made = load_file(converted(folder, tmp_path) / "model.safetensors")
    before = load_file(folder / "model.safetensors")
    assert made[LAYER].dtype == torch.int8
    restored = made[LAYER].float() * made[LAYER.replace("weight", "weight_scale")].float()
    step = before[LAYER].float().abs().amax(1, keepdim=True) / 127
    assert ((restored - before[LAYER].float()).abs() <= step).all()
    assert torch.equal(made["model.embed_tokens.weight"], before["model.embed_tokens.weight"])
    assert torch.equal(made["model.norm.weight"], before["model.norm.weight"])


@pytest.mark.parametrize("is_tied", [True, False])
def test_a_head_of_its_own_is_converted_and_a_tied_one_is_not(is_tied, model, tmp_path):
    head = {} if is_tied else {"lm_head.weight": torch.randn(32, 16)}
    made = converted(model(is_tied=is_tied, **head), tmp_path)
    assert ("lm_head.weight_scale" in load_file(made / "model.safetensors")) is not is_tied
    ignored = json.loads((made / "config.json").read_text())["quantization_config"]["ignore"]
    assert ignored == (["lm_head"] if is_tied else [])


def test_it_is_converted_once_and_again_when_the_weights_change(model, tmp_path):
    folder = model()
    lines: list[str] = []
    first = int8.ensure_int8(folder, tmp_path / "cache", lines.append)
    assert int8.ensure_int8(folder, tmp_path / "cache", lines.append) == first
    assert len(lines) == 1
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    assert (int8.ensure_int8(folder, tmp_path / "cache", lines.append) / "tokenizer.json").read_text() == '{"version": "1.0"}'
    save_file({LAYER: torch.zeros(8, 16), "model.embed_tokens.weight": torch.zeros(32, 16)}, folder / "model.safetensors")
    assert int8.ensure_int8(folder, tmp_path / "cache", lines.append) != first


def test_what_cannot_be_converted_is_refused(model, tmp_path):
    with pytest.raises(ModelUnavailable, match="local folder"):
        converted(tmp_path / "nothing", tmp_path)
    with pytest.raises(ModelUnavailable, match="not converted to int8"):
        converted(model(**{"model.layers.0.mlp.gate.weight": torch.ones(4, 16)}), tmp_path)
    (tmp_path / "small" / "config.json").unlink()
    with pytest.raises(ModelUnavailable, match=r"config\.json"):
        converted(tmp_path / "small", tmp_path)
    assert not list((tmp_path / "cache").iterdir())


def test_what_a_killed_conversion_left_is_taken_away(model, tmp_path):
    (tmp_path / "cache" / STAGING_FOLDER / "killed" / "version").mkdir(parents=True)
    made = converted(model(), tmp_path)
    assert list((tmp_path / "cache").iterdir()) == [made]


def test_a_cache_that_cannot_be_written_is_said_in_one_line(model, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(ModelUnavailable, match="cannot be made"):
        converted(model(), tmp_path)


def test_a_quantised_model_is_refused(model, tmp_path):
    with pytest.raises(ModelUnavailable, match="already"):
        converted(model(config={"quantization_config": {"quant_method": "awq"}}), tmp_path)


@pytest.mark.parametrize(
    ("has_amx", "dtype", "adapter_slots", "is_refused"),
    [(True, "bfloat16", 8, False), (True, "float32", 0, True), (False, "float32", 0, False), (False, "bfloat16", 8, True)],
)
def test_processors_whose_kernels_would_fail_are_told_before_loading(has_amx, dtype, adapter_slots, is_refused):
    if is_refused:
        with pytest.raises(ModelUnavailable):
            int8.check_processor(has_amx=has_amx, dtype=dtype, adapter_slots=adapter_slots)
    else:
        int8.check_processor(has_amx=has_amx, dtype=dtype, adapter_slots=adapter_slots)


def test_a_front_end_converts_no_weights(model, monkeypatch, tmp_path):
    """The replicas have them. On a processor that could not use them, nothing is refused either."""
    monkeypatch.setattr(os, "environ", dict(os.environ))  # what is set for vLLM does not stay
    folder = model(config={"hidden_size": 16, "num_hidden_layers": 1})
    settings = Settings(model=str(folder), quantization="int8", cache_dir=tmp_path / "cache", replicas="http://127.0.0.1:1")
    options = engine_options(settings, has_weights=False)
    assert (options.model, options.quantization) == (settings.model, None)
    assert not (tmp_path / "cache").exists()
