"""The number of parameters, from which FLOPs are estimated."""

from types import SimpleNamespace

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
