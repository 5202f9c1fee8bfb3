"""From the settings to the weights that vLLM loads."""

import pytest

from app.engine.build import _weights
from app.engine.weights.conversions import ModelUnavailable
from app.settings import Settings


def test_a_gguf_file_is_refused_by_name() -> None:
    """VLLM would say that it is not valid JSON."""
    with pytest.raises(ModelUnavailable, match=r"models/tiny\.gguf: vLLM does not read GGUF files"):
        _weights(Settings(model="models/tiny.gguf"), "float32", is_cpu=True)
