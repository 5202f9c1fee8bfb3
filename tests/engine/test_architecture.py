"""The arithmetic of FLOPs, checked by hand, by its properties, and against torch's own counter on the embedded model."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.architecture import Architecture
from app.engine.speculation import Drafts, Speculation, prediction_head

SMOLLM = {
    "num_hidden_layers": 30, "hidden_size": 576, "num_attention_heads": 9, "num_key_value_heads": 3,
    "intermediate_size": 1536, "vocab_size": 49152, "model_type": "llama",
}  # fmt: skip
QWEN_05 = {
    "num_hidden_layers": 24, "hidden_size": 896, "num_attention_heads": 14, "num_key_value_heads": 2,
    "intermediate_size": 4864, "vocab_size": 151936, "model_type": "qwen2", "sliding_window": 32768,
    "use_sliding_window": False,
}  # fmt: skip
QWEN_15 = {**QWEN_05, "num_hidden_layers": 28, "hidden_size": 1536, "num_attention_heads": 12, "intermediate_size": 8960}
LLAMA_1 = {
    "num_hidden_layers": 16, "hidden_size": 2048, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
    "intermediate_size": 8192, "vocab_size": 128256, "model_type": "llama",
}  # fmt: skip
MODEL = Architecture.from_config(SMOLLM)
TOKENS = st.integers(min_value=1, max_value=5000)


@pytest.mark.parametrize(
    ("config", "gflop_per_token", "per_position"),
    [(SMOLLM, 0.269, 69_120), (QWEN_05, 0.988, 86_016), (QWEN_15, 3.087, 172_032), (LLAMA_1, 2.471, 131_072)],
    ids=["SmolLM2-135M", "Qwen2.5-0.5B", "Qwen2.5-1.5B", "Llama-3.2-1B"],
)
def test_known_models_cost_what_is_published(config: dict, gflop_per_token: float, per_position: int) -> None:
    """The FLOPs of the matrix products with the LM head for one token, and of attention for one position."""
    model = Architecture.from_config(config)
    assert (model.layers_per_token + model.head_per_row) / 1e9 == pytest.approx(gflop_per_token, abs=5e-4)
    assert model.attention_per_position == per_position


def test_a_tiny_model_by_hand() -> None:
    """One layer with two heads that share one key head, and every product written out."""
    tiny = Architecture.dense(
        num_layers=1, hidden_size=4, num_heads=2, num_kv_heads=1, head_dim=2, intermediate_size=8, vocab_size=10
    )
    assert tiny.layers_per_token == 2 * (4 * 4 + 2 * (4 * 2) + 4 * 4 + 3 * 4 * 8)  # q, k and v, o, gate-up-down
    assert tiny.head_per_row == 2 * 4 * 10
    assert tiny.attention_per_position == 2 * 2 * (2 * 2)  # scores and values, two heads of two
    assert tiny.prefill(3) == 3 * tiny.layers_per_token + (1 + 2 + 3) * tiny.attention_per_position
    # Three prompt tokens, three generated: one prefill with one row of logits, then passes at lengths 4 and 5.
    prefill, decode = tiny.branch_cost(3, 0, 3)
    assert prefill == tiny.prefill(3) + tiny.head_per_row
    assert decode == 2 * (tiny.layers_per_token + tiny.head_per_row) + (4 + 5) * tiny.attention_per_position
    with_lora = tiny.with_lora(2 * ((4 + 4) + (4 + 2)))  # rank 2 on q_proj (4 to 4) and v_proj (4 to 2)
    assert with_lora.layers_per_token - tiny.layers_per_token == 2 * 2 * ((4 + 4) + (4 + 2))
    assert with_lora.head_per_row == tiny.head_per_row


def test_a_sliding_window_bounds_attention() -> None:
    """Beyond the window each token attends to as many positions as the window has."""
    model = Architecture.from_config({**SMOLLM, "sliding_window": 4})
    pairs = (model.prefill(6) - 6 * model.layers_per_token) / model.attention_per_position
    assert pairs == 1 + 2 + 3 + 4 + 4 + 4


@given(TOKENS, TOKENS, TOKENS)
def test_a_prefill_costs_the_same_in_chunks(first: int, second: int, before: int) -> None:
    """The sum of the parts is the whole, however the engine splits a prefill."""
    assert MODEL.prefill(first, before) + MODEL.prefill(second, before + first) == MODEL.prefill(first + second, before)


@given(TOKENS, st.integers(min_value=0, max_value=10**13))
def test_what_is_affordable_is_exact(prompt: int, flops: int) -> None:
    """So many tokens fit into the budget, and one more does not."""
    tokens = MODEL.affordable_tokens(prompt, flops)
    assert tokens == 0 or sum(MODEL.branch_cost(prompt, 0, tokens)) <= flops
    assert sum(MODEL.branch_cost(prompt, 0, tokens + 1)) > flops


@given(TOKENS, TOKENS)
def test_what_the_cache_saves_is_what_it_would_have_cost(cached: int, fresh: int) -> None:
    """The costs with and without the cache differ by what is reported as saved."""
    prompt = cached + fresh
    without, _ = MODEL.branch_cost(prompt, 0, 1)
    with_cache, _ = MODEL.branch_cost(prompt, cached, 1)
    assert without - with_cache == MODEL.saved(prompt, cached) > 0


@pytest.mark.parametrize("config", [{}, {"num_attention_heads": 4}, {"model_type": "llama", "hidden_size": "wide"}])
def test_a_model_of_which_nothing_is_known_cannot_be_counted(config: dict) -> None:
    """There is no number to begin with, unless the engine tells how many parameters it has loaded."""
    with pytest.raises(ValueError, match="counted"):
        Architecture.from_config(config)
    model = Architecture.from_config(config, parameters=1000)
    assert model.is_estimate
    assert model.prefill(3) == 3 * 2 * 1000


def test_an_unknown_architecture_is_estimated() -> None:
    """2 FLOPs for each active parameter and token, plus attention; embeddings are looked up, the LM head is counted by row."""
    config = {**SMOLLM, "model_type": "nobody_knows", "tie_word_embeddings": True}
    known = Architecture.from_config(SMOLLM)
    estimate = Architecture.from_config(config, parameters=known.layers_per_token // 2 + 576 * 49152)
    assert estimate.is_estimate
    assert not known.is_estimate
    assert estimate.branch_cost(100, 0, 10) == known.branch_cost(100, 0, 10)
    assert estimate.linear_modules == known.linear_modules
    unlike = Architecture.from_config(config)
    assert unlike.is_estimate
    assert unlike.layers_per_token == 2 * 12 * 30 * 576**2


def test_idle_experts_are_not_estimated() -> None:
    """A token passes through two of eight experts."""
    config = {**SMOLLM, "model_type": "nobody_knows", "tie_word_embeddings": True, "num_experts": 8, "num_experts_per_tok": 2}
    every = 30 * 8 * 3 * 576 * 1536
    estimate = Architecture.from_config(config, parameters=every + 576 * 49152)
    assert estimate.layers_per_token == 2 * every // 4


@pytest.mark.parametrize(
    "change",
    [
        {"num_experts": 8}, {"layer_types": ["full_attention"]}, {"head_dim": "64"}, {"num_key_value_heads": []},
        *({name: size} for name in ("num_hidden_layers", "hidden_size", "vocab_size") for size in (0, -1, 10**30, "x", True)),
        {"layer_types": ["full_attention"] * 2000, "num_hidden_layers": None}, {"text_config": "x"}, {"text_config": [1]},
    ],
)  # fmt: skip
def test_a_config_that_makes_no_sense_is_estimated(change: dict) -> None:
    """A start is never refused for its FLOPs."""
    model = Architecture.from_config({**SMOLLM, **change}, parameters=10**8)
    assert model.prefill(10) > 0


def test_kinds_beyond_the_last_layer_are_those_of_a_prediction_head() -> None:
    """With fewer kinds than layers the config makes no sense."""
    kinds = ["full_attention"] * 31
    assert Architecture.from_config({**SMOLLM, "layer_types": kinds}) == MODEL
    assert Architecture.from_config({**SMOLLM, "layer_types": kinds[:29]}, parameters=10**8).is_estimate


def test_a_tower_that_nobody_knows_leaves_the_decoder_exact() -> None:
    """Its images have no FLOPs that could be told."""
    model = Architecture.from_config({"model_type": "new_vl", "text_config": SMOLLM, "vision_config": {"depth": "deep"}})
    assert model == MODEL
    assert model.image(100) == 0


def test_what_is_written_can_be_read_again() -> None:
    """As JSON, and as files of the first version have it."""
    config = {**SMOLLM, "vision_config": {}, "layer_types": ["full_attention", "sliding_attention"] * 15, "sliding_window": 8}
    for model in (MODEL, Architecture.from_config(config).with_lora(5)):
        assert Architecture.from_dict(json.loads(json.dumps(model.to_dict()))) == model
    first = {
        "num_layers": 30, "hidden_size": 576, "num_heads": 9, "num_kv_heads": 3, "head_dim": 64, "intermediate_size": 1536,
        "vocab_size": 49152, "has_gated_mlp": True, "sliding_window": None, "lora_parameters": 7,
    }  # fmt: skip
    assert Architecture.from_dict(first) == MODEL.with_lora(7)
    for other in ({}, {"num_heads": 3}, {"layers": 5}, {**first, "num_heads": "many"}, {**first, "depth": 3}):
        with pytest.raises(ValueError, match="validation"):
            Architecture.from_dict(other)


def test_a_prefill_projects_latent_vectors_of_the_cache_up_again() -> None:
    """So a prefix that is cached saves less than it costs to compute, and tokens are decoded without it."""
    latent = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128}
    model = Architecture.from_config({**SMOLLM, **latent, "model_type": "deepseek_v3"})
    up = 2 * 512 * 9 * (128 + 128) * 30
    assert model.prefill(1, 100) - model.prefill(1, 0) == 100 * (model.attention_per_position + up)
    scores = 30 * 2 * 9 * (512 + 64 + 512)
    assert model.decode(1, 100) - model.decode(1, 99) == scores


@given(TOKENS, st.integers(min_value=0, max_value=50), st.integers(min_value=0, max_value=50))
def test_drafted_tokens_are_computed(prompt: int, accepted: int, rejected: int) -> None:
    """The target computes what it rejects, the draft what it drafts; a lookup drafts for nothing."""
    lookup, head = Speculation(None, 3), Speculation(prediction_head(SMOLLM), 3)
    drafts, generated = Drafts(accepted + rejected, accepted), accepted + 20
    wasted = rejected * MODEL.decode(1, prompt + generated // 2)
    assert lookup.extra_cost(MODEL, prompt, 0, generated, drafts) == wasted
    reading = head.extra_cost(MODEL, prompt, 0, generated, Drafts())
    assert reading == head.draft.prefill(prompt) > head.extra_cost(MODEL, prompt, prompt, generated, Drafts())
    assert (head.extra_cost(MODEL, prompt, 0, generated, drafts) > wasted + reading) == (drafts.drafted > 0)
    for way in (lookup, head):
        assert way.extra_cost(MODEL, prompt, 0, 20, Drafts(19 * 3)) <= way.most(MODEL, prompt, 20)


def test_a_prediction_head_has_one_layer_a_projection_and_the_lm_head() -> None:
    """The projection joins two vectors."""
    head = prediction_head(SMOLLM)
    assert head.layers_per_token == MODEL.layers_per_token // 30 + 2 * 2 * 576 * 576
    assert head.head_per_row == MODEL.head_per_row


@pytest.mark.vllm
@pytest.mark.filterwarnings("ignore")
def test_torch_counts_the_same_on_the_embedded_model() -> None:
    """Within 1 % for a prefill, one after a cached prefix, and decode steps.

    torch counts what eager attention computes, the full square of a prefill; a causal model needs the triangle, which is what we
    count. So the expected value is ours plus the pairs above the diagonal. Decode has no such pairs: there it is ours as it stands.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForCausalLM

    from app.engine.weights.default_model import ensure_default_model

    folder = ensure_default_model(Path("~/.cache/ponder").expanduser(), print)
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    ours = Architecture.from_config(model.config.to_dict())

    def counted(num_tokens: int, cache: object) -> tuple[int, object]:
        ids = torch.arange(num_tokens).unsqueeze(0) + 100
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            output = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return counter.get_total_flops(), output.past_key_values

    def above_diagonal(num_tokens: int) -> int:
        return num_tokens * (num_tokens - 1) // 2 * ours.attention_per_position

    total, cache = counted(96, None)
    assert total == pytest.approx(ours.prefill(96) + above_diagonal(96) + ours.head_per_row, rel=0.01)
    total, cache = counted(48, cache)
    assert total == pytest.approx(ours.prefill(48, 96) + above_diagonal(48) + ours.head_per_row, rel=0.01)
    decoded = 0
    for _ in range(4):
        step, cache = counted(1, cache)
        decoded += step
    _, decode = ours.branch_cost(144, 0, 5)
    assert decoded == pytest.approx(decode, rel=0.01)


@pytest.mark.vllm
@pytest.mark.parametrize(("trains_all", "recomputes"), [(True, False), (False, False), (False, True)])
def test_training_is_counted_as_torch_counts_it(trains_all, recomputes):
    """They agree within 3 % on the real model. torch skips gradients below the lowest weight that is trained."""
    import torch
    from peft import LoraConfig, get_peft_model
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForCausalLM

    from adapters.training.recipe import LINEAR
    from app.engine.weights.default_model import ensure_default_model

    folder = ensure_default_model(Path("~/.cache/ponder").expanduser(), print)
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    ours = Architecture.from_config(model.config.to_dict())
    if not trains_all:
        model = get_peft_model(model, LoraConfig(r=16, target_modules=list(LINEAR)))
        ours = ours.with_lora(sum(one.numel() for one in model.parameters() if one.requires_grad))
    if recomputes:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    tokens = 64
    ids = torch.arange(tokens).unsqueeze(0) + 100
    with FlopCounterMode(display=False) as counter:
        model.train()(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    above_diagonal = (4 if recomputes else 3) * tokens * (tokens - 1) // 2 * ours.attention_per_position
    pairs = tokens * (tokens + 1) // 2
    counted = ours.training_pass(tokens, pairs, tokens, learns=True, trains_all=trains_all, recomputes=recomputes)
    assert counter.get_total_flops() == pytest.approx(counted + above_diagonal, rel=0.03)
