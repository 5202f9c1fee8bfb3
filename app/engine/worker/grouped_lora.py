"""LoRA on vLLM's CPU back end, grouped by adapter (vLLM 0.32).

vLLM's own CPU path has two faults. It copies an adapter's matrices once for every token, which makes prefills tens of times slower.
And a token without an adapter has the index -1, which reads the last slot: in a batch with adapters, the base model's requests are
answered with the adapter that is, or once was, in that slot.

Here the matrices are multiplied where they are, for all tokens of an adapter at once, and tokens without an adapter stay untouched.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch

FEW = 64
"""A mixed batch of at most this many tokens is multiplied by the matrices of all slots in use at once, and the products of other
slots than a token's own are set to zero. With so few tokens the wasted products cost less than one multiplication for each slot.
Larger batches are multiplied slot by slot.
"""


class Group(NamedTuple):
    """Rows of a batch that are multiplied together, by the matrices of one slot or of several.

    Attributes:
        rows: indexes of the rows; None for all rows.
        first: the first slot.
        end: the slot after the last.
        foreign: whether a slot is not the row's own, with the shape (rows, slots, 1); None where every slot is.

    """

    rows: torch.Tensor | None
    first: int
    end: int
    foreign: torch.Tensor | None


def groups_of(indices: torch.Tensor) -> list[Group]:
    """Return the groups of a batch. `indices` has the slot of each row, -1 for no adapter."""
    found = sorted(set(indices.tolist()))
    slots = [slot for slot in found if slot >= 0]
    if slots and len(found) > 1 and len(indices) <= FEW:
        covered = torch.arange(slots[0], slots[-1] + 1)
        return [Group(None, slots[0], slots[-1] + 1, (indices[:, None] != covered)[:, :, None])]
    return [Group(None if len(found) == 1 else (indices == slot).nonzero()[:, 0], slot, slot + 1, None) for slot in slots]


class GroupedLayer:
    """What LoRA adds to the output of one linear layer. A layer may be several packed projections (q, k and v).

    The matrices of all slots and projections are moved into two large ones, so that two multiplications serve any number of them.
    One has all A below each other; the other has all B, each in the columns of its projection. The layer keeps views in the old
    shapes, through which vLLM writes adapters into its slots.

    Args:
        layer: vLLM's layer with LoRA. Its method that applies LoRA is replaced.
        groups: of the current batch, a list that `GroupedLora` keeps up to date.

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
        """Add the products of the adapters to `output`, which the base layer computed from `x`, and return it.

        vLLM calls this for every layer at every step, so a batch without adapters must cost nothing.
        """
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
    """Methods for vLLM's worker class."""

    model_runner: Any

    def ponder_group_loras(self) -> None:
        """Take over every linear layer. Call it once, before adapters are loaded, and only where the model is not compiled."""
        manager = self.model_runner.lora_manager._adapter_manager
        for wrapper in set(manager.punica_wrapper_mapping.values()):
            groups = _kept_up_to_date(wrapper)
            for layer in manager.modules.values():
                # Embeddings and the LM head, which vLLM wraps unless it is told otherwise, have a tensor here.
                if layer.punica_wrapper is wrapper and isinstance(layer.lora_a_stacked, tuple):
                    GroupedLayer(layer, groups)
        manager._last_mapping = None  # vLLM skips the update for an unchanged mapping; this makes the next step group its rows

    def ponder_spare_prompts(self) -> None:
        """Leave adapters out of the scores of whole prompts, where vLLM has wrapped the LM head for them.

        It would add those of the tokens that are sampled, whose number is another one, and end at that (0.32). The adapters that the store
        accepts leave the LM head alone, so nothing is missing.
        """
        for wrapper in set(self.model_runner.lora_manager._adapter_manager.punica_wrapper_mapping.values()):
            wrapper.add_lora_logits = partial(_add_to_sampled, wrapper, wrapper.add_lora_logits)


def _add_to_sampled(wrapper: Any, add: Callable[..., None], y: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    if x.view(-1, x.shape[-1]).shape[0] == len(wrapper.sampler_indices):
        add(y, x, *args, **kwargs)


def _kept_up_to_date(wrapper: Any) -> list[Group]:
    """Return a list that holds the groups of the batch for which vLLM last updated this wrapper."""
    groups: list[Group] = []
    update = wrapper.update_metadata

    def update_and_group(*args: Any, **kwargs: Any) -> None:
        update(*args, **kwargs)
        groups[:] = groups_of(wrapper.token_lora_indices)

    wrapper.update_metadata = update_and_group
    return groups
