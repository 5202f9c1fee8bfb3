"""The number of parameters, from which FLOPs are estimated."""

from types import SimpleNamespace

import torch
from torch import nn

from app.engine.worker.parameters import ParameterCount


class Multimodal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tower, self.decoder = nn.Linear(9, 9), nn.Linear(4, 2)

    def get_language_model(self) -> nn.Module:
        return self.decoder


def test_the_parameters_of_the_decoder_are_counted() -> None:
    """Those of a vision tower are not, since text does not pass through it."""
    worker = ParameterCount()
    for model in (nn.Linear(4, 2), Multimodal()):
        worker.model_runner = SimpleNamespace(get_model=lambda model=model: model)
        assert worker.ponder_count_parameters() == 4 * 2 + 2


def test_weights_that_are_packed_for_a_kernel_are_counted() -> None:
    """VLLM's CPU back end leaves an empty weight in their place."""
    layer = nn.Linear(4, 2)
    layer.weight = nn.Parameter(torch.empty(0))
    layer.input_size, layer.input_size_per_partition, layer.output_size = 8, 4, 2  # of two workers
    worker = ParameterCount()
    worker.model_runner = SimpleNamespace(get_model=lambda: nn.Sequential(layer, nn.Linear(2, 2)))
    assert worker.ponder_count_parameters() == 4 * 2 + 2 + 2 * 2 + 2
