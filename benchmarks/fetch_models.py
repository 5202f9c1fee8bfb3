"""Builds the larger models for benchmarks, with `../shared/models/fetch_models.py`; `python -m benchmarks.fetch_models coder-0.5b`.

That script deletes a field of the converted config that newer versions of transformers do not set, and fails. So this one sets it.
"""

import importlib.util
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "shared" / "models" / "fetch_models.py"


def main() -> None:
    """Entry point. The arguments are those of the script."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - seconds to import

    spec = importlib.util.spec_from_file_location("fetch_models", SCRIPT)
    if spec is None or spec.loader is None or not SCRIPT.exists():
        sys.exit(f"{SCRIPT} does not exist")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    load = AutoModelForCausalLM.from_pretrained

    def loaded(*args: object, **kwargs: object) -> object:
        model = load(*args, **kwargs)
        vars(model.config).setdefault("quantization_config", None)
        return model

    AutoModelForCausalLM.from_pretrained = loaded
    script.main()


if __name__ == "__main__":
    main()
