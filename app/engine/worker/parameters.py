"""Counts the parameters of the loaded model. The FLOPs of an architecture that is not known are estimated from them."""

from typing import Any


class ParameterCount:
    """Methods for vLLM's worker class."""

    model_runner: Any

    def ponder_count_parameters(self) -> int:
        """Return the number of parameters that this worker holds of the model, of a multimodal one those of its decoder.

        Parameters that are packed several to a number, as those of four bits are, count as one.
        """
        model = self.model_runner.get_model()
        decoder = model.get_language_model() if hasattr(model, "get_language_model") else model
        packed = sum(_num_packed(module) for module in decoder.modules())
        number: int = packed + sum(parameter.numel() for parameter in decoder.parameters())
        return number


def _num_packed(module: Any) -> int:
    """Return the size of a linear layer's weight that vLLM's CPU back end has packed for its kernel: it leaves an empty one (0.32)."""
    weight = getattr(module, "weight", None)
    if weight is None or weight.numel() or not hasattr(module, "input_size"):
        return 0
    inputs: int = getattr(module, "input_size_per_partition", module.input_size)
    outputs: int = getattr(module, "output_size_per_partition", module.output_size)
    return inputs * outputs
