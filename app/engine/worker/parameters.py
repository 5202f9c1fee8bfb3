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
        return sum(parameter.numel() for parameter in decoder.parameters())
