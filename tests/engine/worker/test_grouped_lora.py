"""LoRA on vLLM's CPU back end, compared with a sum that is written out row by row."""

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

SLOTS, RANK, INPUTS, OUTPUTS = 4, 3, 6, (5, 2)


def layer():
    """Return a layer of two packed projections, with matrices in vLLM's shapes and random adapters in its slots."""
    generator = torch.Generator().manual_seed(1)
    return SimpleNamespace(
        lora_a_stacked=tuple(torch.randn(SLOTS, 1, RANK, INPUTS, generator=generator) for _ in OUTPUTS),
        lora_b_stacked=tuple(torch.randn(SLOTS, 1, size, RANK, generator=generator) for size in OUTPUTS),
    )


def written_out(stacks_a, stacks_b, x, slots: list[int]):
    """Return what the adapters add to each row, computed row by row."""
    rows = []
    for row, slot in zip(x, slots, strict=True):
        parts = [
            b[slot, 0] @ (a[slot, 0] @ row) if slot >= 0 else torch.zeros(b.shape[2])
            for a, b in zip(stacks_a, stacks_b, strict=True)
        ]
        rows.append(torch.cat(parts))
    return torch.stack(rows)


MIXES = {
    "no adapter": [-1] * 5,
    "one adapter": [2] * 5,
    "one adapter and the base model": [2, -1, 2, -1, -1],
    "the last slot and the base model": [SLOTS - 1, -1, -1],
    "several": [0, 3, 1, 0, 3],
    "several and the base model": [0, -1, 3, 1, -1],
    "many rows": [0, -1, 3, 1, -1] * 40,
    "many rows of one": [1] * 200,
    "a single row": [3],
}


@pytest.mark.parametrize("slots", MIXES.values(), ids=MIXES.keys())
def test_each_row_gets_its_own_adapter_and_no_other(slots: list[int]) -> None:
    """It holds for every grouping, and rows without an adapter do not change by a bit."""
    from app.engine.worker.grouped_lora import GroupedLayer, groups_of

    one = layer()
    before = [stack.clone() for stack in (*one.lora_a_stacked, *one.lora_b_stacked)]
    GroupedLayer(one, groups_of(torch.tensor(slots)))
    x, y = torch.randn(len(slots), INPUTS), torch.randn(len(slots), sum(OUTPUTS))
    result = one._apply_lora_to_output(x, y.clone())
    expected = y + written_out(before[:2], before[2:], x, slots)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)
    untouched = [row for row, slot in enumerate(slots) if slot < 0]
    assert torch.equal(result[untouched], y[untouched])


def test_vllm_fills_the_slots_through_the_old_shapes() -> None:
    """What is written there later is what is computed with."""
    from app.engine.worker.grouped_lora import GroupedLayer, groups_of

    one = layer()
    GroupedLayer(one, groups_of(torch.tensor([1, 1])))
    one.lora_a_stacked[0][1] = 0
    one.lora_b_stacked[1][1] = 0
    result = one._apply_lora_to_output(torch.randn(2, INPUTS), torch.zeros(2, sum(OUTPUTS)))
    assert torch.equal(result, torch.zeros_like(result))
