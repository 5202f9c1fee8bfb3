"""LoRA on vLLM's CPU engine, grouped by adapter. Runs in the engine's worker process and imports nothing of vLLM.

vLLM's own CPU path copies an adapter's matrices once for every token, which makes prefills tens of times slower; and a token without
an adapter carries the index -1, which reads the last slot: in a batch with adapters, requests for the base model are answered with
whatever adapter lies, or once lay, in that slot. Here a layer's matrices are multiplied in place, for all tokens of an adapter at
once, and tokens without one stay untouched. Installed through vLLM's own `worker_extension_cls` and one `collective_rpc` at start.
"""

from typing import Any, NamedTuple

import torch

FEW = 64
"""Up to so many tokens are multiplied by all slots in use at once, and what is not theirs blanked out; more go slot by slot."""


class Group(NamedTuple):
    """Rows of a batch that one multiplication covers (all where None), by the slots from `first` to before `end`.

    `foreign` tells which of the slots are not a row's own, as (rows, slots, 1); None where all are.
    """

    rows: torch.Tensor | None
    first: int
    end: int
    foreign: torch.Tensor | None


def groups_of(indices: torch.Tensor) -> list[Group]:
    """The groups of a batch whose rows use the slots `indices`, where -1 stands for no adapter."""
    found = sorted(set(indices.tolist()))
    slots = [slot for slot in found if slot >= 0]
    if slots and len(found) > 1 and len(indices) <= FEW:
        covered = torch.arange(slots[0], slots[-1] + 1)
        return [Group(None, slots[0], slots[-1] + 1, (indices[:, None] != covered)[:, :, None])]
    return [Group(None if len(found) == 1 else (indices == slot).nonzero()[:, 0], slot, slot + 1, None) for slot in slots]


class GroupedLayer:
    """What one linear layer adds to its output, of which packed projections (q, k and v) are one.

    The matrices of all slots and projections move to where two multiplications serve any number of them: all A below each other,
    and all B, each in its projection's columns. The layer keeps views of the old shapes, through which vLLM fills its slots.

    Args:
        layer: vLLM's layer.
        groups: of the current batch; kept up to date by `GroupedLora`.

    """

    def __init__(self, layer: Any, groups: list[Group]) -> None:
        self._groups = groups
        stacked_a, stacked_b = layer.lora_a_stacked, layer.lora_b_stacked
        num_slots, rank, sizes = len(stacked_b[0]), stacked_b[0].shape[-1], [b.shape[2] for b in stacked_b]
        a = torch.cat(stacked_a, dim=1)  # slot, projection, rank, input
        b = stacked_b[0].new_zeros(num_slots, len(sizes), rank, sum(sizes))  # slot, projection, rank, output
        layer.lora_a_stacked = tuple(a[:, i : i + 1] for i in range(len(sizes)))
        layer.lora_b_stacked = tuple(b[:, i : i + 1].split(sizes, -1)[i].mT for i in range(len(sizes)))
        for view, old in zip(layer.lora_b_stacked, stacked_b, strict=True):
            view.copy_(old)
        self._a, self._b, self._width = a.flatten(0, 2), b.flatten(0, 2), len(sizes) * rank
        layer._apply_lora_to_output = self.add

    def add(self, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Add the adapters' share to what the base layer made of `x`. Called for every layer and step: nothing is done without need."""
        if self._groups:
            self._add(x.view(-1, x.shape[-1]), output.view(-1, output.shape[-1]))
        return output

    def _add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        for rows, first, end, foreign in self._groups:
            joined = slice(first * self._width, end * self._width)
            inner = (x if rows is None else x.index_select(0, rows)) @ self._a[joined].T
            if foreign is not None:
                inner.view(len(inner), end - first, -1).masked_fill_(foreign, 0)
            if rows is None:
                y.addmm_(inner, self._b[joined])
            else:
                y.index_add_(0, rows, inner @ self._b[joined])


class GroupedLora:
    """Methods that vLLM mixes into its worker class."""

    model_runner: Any

    def ponder_group_loras(self) -> None:
        """Take over every linear layer; call once, before adapters are loaded. Only for models that are not compiled."""
        manager = self.model_runner.lora_manager._adapter_manager
        for wrapper in set(manager.punica_wrapper_mapping.values()):
            groups = _kept_up_to_date(wrapper)
            for layer in manager.modules.values():
                if layer.punica_wrapper is wrapper:
                    GroupedLayer(layer, groups)
        manager._last_mapping = None  # so that the next step groups its rows


def _kept_up_to_date(wrapper: Any) -> list[Group]:
    """The groups of whatever batch the wrapper is told of."""
    groups: list[Group] = []
    update = wrapper.update_metadata

    def update_and_group(*args: Any, **kwargs: Any) -> None:
        update(*args, **kwargs)
        groups[:] = groups_of(wrapper.token_lora_indices)

    wrapper.update_metadata = update_and_group
    return groups
