"""FLOPs of every family, against torch's counter on tiny random models from transformers.

torch counts every matrix product that eager attention and eager experts compute. Two ways of computing leave nothing to guess:

- Tokens one by one over a cache attend to exactly the positions that a causal model needs. The sum of the steps is what we count.
- All tokens at once compute the whole rectangle of scores, with those above the diagonal and outside of windows. So the expected value
  is ours for the matrix products, and the full square for attention.

What a recurrent layer does to its state is written in transformers partly as sums of products, which torch's counter does not see. So
what torch counts lies between ours without the states and ours with them, and a recurrence of matrix products is counted by itself.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from app.engine.architecture import Architecture
from app.engine.flops import attention, recurrent
from app.engine.flops.decoder import FAMILIES
from tests.engine.flops import tiny

pytestmark = pytest.mark.filterwarnings("ignore")

NUM_TOKENS = 7
STATE_SPACE = frozenset({"mamba", "falcon_mamba", "mamba2"})
DECODERS_OF_VISION = {name for name in FAMILIES if "_vl" in name}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads cost more than they gain on models of this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def counted(compute: Any, *arguments: Any, **named: Any) -> tuple[int, Any]:
    """Return the FLOPs that torch counts, and what was computed."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        result = compute(*arguments, **named)
    return counter.get_total_flops(), result


def one_by_one(model: Any, *, is_state_space: bool) -> int:
    """Return the FLOPs of all tokens but the first, each over the cache of those before it."""
    name = "cache_params" if is_state_space else "past_key_values"
    cache, total = None, 0
    for position in range(NUM_TOKENS):
        flops, output = counted(model, torch.tensor([[3 + position]]), **{name: cache}, use_cache=True)
        cache = getattr(output, name)
        total += flops if position else 0
    return total


def states_of(model: Architecture) -> int:
    return sum(one.count * one.per_state for one in model.layers)


def rectangle(model: Architecture, num_tokens: int) -> int:
    return num_tokens * (model.layers_per_token + model.head_per_row) + num_tokens**2 * model.attention_per_position


def test_every_family_that_is_counted_is_checked() -> None:
    """A family without a tiny model here must not be called exact."""
    assert {name.partition("/")[0] for name in tiny.FAMILIES} | DECODERS_OF_VISION == set(FAMILIES)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_torch_counts_the_same(family: str) -> None:
    """Within 1 %, token by token and all at once."""
    model = tiny.tiny_model(family)
    ours = Architecture.from_config(model.config.to_dict())
    assert not ours.is_estimate
    stepwise = one_by_one(model, is_state_space=family in STATE_SPACE)
    # transformers projects the latent vectors of the cache up again in each step, as vLLM does in a prefill
    whole = sum(ours.prefill(1, before) + ours.head_per_row for before in range(1, NUM_TOKENS))
    states = (NUM_TOKENS - 1) * states_of(ours)
    assert 0.99 * (whole - states) <= stepwise <= 1.01 * whole
    if not states:
        assert stepwise == pytest.approx(whole, rel=0.01)
        at_once, _ = counted(model, torch.arange(NUM_TOKENS)[None] + 3, use_cache=False)
        assert at_once == pytest.approx(rectangle(ours, NUM_TOKENS), rel=0.01)


@pytest.mark.parametrize(("family", "tiles"), [("idefics3", (1, 3)), ("llava", (3,)), ("gemma3", (3,)), ("internvl", (3,))])
def test_torch_counts_the_same_for_tiles(family: str, tiles: tuple[int, ...]) -> None:
    """Within 1 %: three squares of an image that is cut, or that is read in several crops."""
    model = tiny.tiny_vision_model(family)
    ours = Architecture.from_config(model.config.to_dict())
    inputs = tiny.tiny_image(family) | {"pixel_values": torch.randn(*tiles, 3, 28, 28)}
    image, _ = counted(model.get_image_features, **inputs)
    assert image == pytest.approx(ours.image(3 * tiny.VISION[family].num_tokens), rel=0.01)


@pytest.mark.parametrize("family", tiny.VISION)
def test_torch_counts_the_same_for_images(family: str) -> None:
    """Within 1 %: the tower with its projector, and the decoder of the same model."""
    model = tiny.tiny_vision_model(family)
    ours = Architecture.from_config(model.config.to_dict())
    assert not ours.is_estimate
    image, _ = counted(model.get_image_features, **tiny.tiny_image(family))
    assert image == pytest.approx(ours.image(tiny.VISION[family].num_tokens), rel=0.01)
    if states_of(ours):
        return
    text, _ = counted(model, torch.arange(NUM_TOKENS)[None] + 3, use_cache=False)
    assert text == pytest.approx(rectangle(ours, NUM_TOKENS), rel=0.01)


def test_decoded_tokens_attend_to_latent_vectors() -> None:
    """The absorbed form has the same result as the other, and the FLOPs that are charged for decoding."""
    config = {**tiny.SIZES, **tiny.FAMILIES["deepseek_v3"]}
    heads, rank, plain, rotary, value = 4, 32, 32, 16, 32
    layer, length = attention.latent(config), 7
    torch.manual_seed(0)
    query, rotary_query = torch.randn(heads, plain), torch.randn(heads, rotary)
    latents, rotary_keys = torch.randn(length, rank), torch.randn(length, rotary)
    up_keys, up_values = torch.randn(heads, plain, rank), torch.randn(heads, rank, value)

    def absorbed() -> torch.Tensor:
        mixed = torch.einsum("hp,hpr->hr", query, up_keys)
        scores = torch.cat([mixed, rotary_query], 1) @ torch.cat([latents, rotary_keys], 1).T
        return torch.einsum("hr,hrv->hv", scores.softmax(-1) @ latents, up_values)

    def projected_up() -> torch.Tensor:
        keys, values = torch.einsum("lr,hpr->hlp", latents, up_keys), torch.einsum("lr,hrv->hlv", latents, up_values)
        scores = torch.einsum("hp,hlp->hl", query, keys) + rotary_query @ rotary_keys.T
        return torch.einsum("hl,hlv->hv", scores.softmax(-1), values)

    up = 2 * rank * heads * (plain + value)
    flops, found = counted(absorbed)
    assert flops == up + length * layer.per_decoded_position
    flops, expected = counted(projected_up)
    assert flops == length * (layer.per_cached + layer.per_position)
    assert layer.per_cached == up
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_what_a_state_costs() -> None:
    """One token of each kind of recurrence, written as matrix products: convolution, writing, reading."""

    def mamba_2() -> None:
        channels, heads, head, state = torch.randn(288, 1, 4), 8, 32, 16
        torch.bmm(channels, torch.randn(288, 4, 1))  # the window of each channel
        written = torch.bmm(torch.randn(heads, head, 1), torch.randn(heads, 1, state))
        torch.bmm(written, torch.randn(heads, state, 1))

    def delta_net() -> None:
        heads, key, value = 4, 16, 16
        torch.bmm(torch.randn(128, 1, 4), torch.randn(128, 4, 1))
        state = torch.randn(heads, key, value)
        torch.bmm(torch.randn(heads, 1, key), state)  # what the key finds
        state = state + torch.bmm(torch.randn(heads, key, 1), torch.randn(heads, 1, value))
        torch.bmm(torch.randn(heads, 1, key), state)  # what the query finds

    def mamba_1() -> None:
        inner, state = 256, 16
        torch.bmm(torch.randn(inner, 1, 4), torch.randn(inner, 4, 1))
        torch.mm(torch.mm(torch.randn(inner, 1), torch.randn(1, state)), torch.randn(state, 1))

    for family, read, recurrence in (
        ("granitemoehybrid", recurrent.mamba2, mamba_2),
        ("qwen3_next", recurrent.gated_delta_net, delta_net),
        ("mamba", recurrent.mamba, mamba_1),
    ):
        assert counted(recurrence)[0] == read(tiny.tiny_config(family).to_dict()).per_state, family


@pytest.mark.parametrize(
    "family", ["gemma2", "gemma3_text", "gpt_oss", "cohere2", "qwen2", "llama4_text", "qwen3_next", "jamba", "bamba"]
)
def test_kinds_of_layers_follow_the_family_where_a_config_does_not_name_them(family: str) -> None:
    """As in files that an older version of transformers wrote."""
    config = tiny.tiny_config(family).to_dict()
    older = {
        name: value for name, value in config.items() if name not in {"layer_types", "layers_block_type", "mlp_layer_types"}
    }
    assert Architecture.from_config(older) == Architecture.from_config(config)


def test_a_state_does_not_grow_with_the_context() -> None:
    """Each token costs the same, wherever it is."""
    model = Architecture.from_config(tiny.tiny_config("granitemoehybrid").to_dict())
    layers = next(one for one in model.layers if one.per_state)
    assert len({layers.decode(1, before) for before in range(20)}) == 1


def test_a_token_attends_within_its_chunk() -> None:
    """The first token of a chunk attends to itself alone."""
    model = Architecture.from_config(tiny.tiny_config("llama4_text").to_dict())
    layers = next(one for one in model.layers if one.is_chunked)
    costs = [layers.decode(1, before) // layers.count - layers.per_token for before in range(8)]
    assert [cost // layers.per_position for cost in costs] == [1, 2, 3, 4, 1, 2, 3, 4]
