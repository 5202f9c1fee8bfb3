"""Loads the model that is trained, in its number format, with LoRA weights on the recipe's modules."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from peft import LoraConfig, PeftModel, TaskType, get_peft_model, prepare_model_for_kbit_training
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from adapters.training.errors import MachineRefused, RecipeRefused
from adapters.training.recipe import Recipe


def load_tokenizer(folder: Path, chat_template: Path | None = None) -> Any:
    """Return the tokenizer, with the template in `chat_template` if it is given.

    Raises `RecipeRefused` when there is no folder, or no model or chat template in it, or no template in the file.
    """
    if not folder.is_dir():
        raise RecipeRefused(f"there is no model folder {folder}")
    with _reading(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if chat_template is not None:
        tokenizer.chat_template = _checked_template(tokenizer, chat_template)
    if tokenizer.chat_template is None:
        raise RecipeRefused(f"{folder} has no chat template: it is no model to chat with")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Raise `RecipeRefused` where transformers or safetensors cannot read the model in the folder."""
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        raise RecipeRefused(f"{folder} holds no model that can be trained: {' '.join(str(error).split())}") from error


def _checked_template(tokenizer: Any, file: Path) -> str:
    try:
        template = file.read_text(encoding="utf-8")
        tokenizer.apply_chat_template([{"role": "user", "content": "?"}], chat_template=template, tokenize=False)
    except OSError as error:
        raise RecipeRefused(f"{file} cannot be read: {error.strerror}") from error
    except (TemplateError, UnicodeDecodeError) as error:
        raise RecipeRefused(f"{file} is no chat template: {error}") from error
    return template


def load_model(folder: Path, recipe: Recipe, dtype: str, start: Path | None = None) -> Any:
    """Return the base model with LoRA weights, ready to be trained; those of the adapter in `start` if there is one.

    Trained weights are float32: bfloat16 has 8 bits of precision, so that updates of a thousandth of a weight are
    rounded away.

    Raises:
        RecipeRefused: there is no model in the folder, or it lacks a target module.
        MachineRefused: this processor cannot compute in 4 bits.

    """
    torch.manual_seed(recipe.seed)  # LoRA's matrix A is drawn at random
    options: dict[str, Any] = {"dtype": torch.float32 if recipe.method == "full" else getattr(torch, dtype)}
    if recipe.method == "qlora":
        check_four_bits()
        options["quantization_config"] = four_bits(dtype)
    with _reading(folder):
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, **options)
    model.config.use_cache = False
    if recipe.method == "full":
        return model
    check_targets(model, recipe.targets)
    if recipe.method == "qlora":
        _keep_differentiable(model)
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=recipe.recompute)
    return get_peft_model(model, lora_config(recipe)) if start is None else _continued(model, folder, start)


def skeleton(folder: Path) -> Any:
    """Return the base model without weights, which takes no memory, to look at its modules.

    Raises `RecipeRefused` when there is no model in the folder.
    """
    with _reading(folder), torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))


def _continued(model: Any, folder: Path, start: Path) -> Any:
    """Add the weights of an adapter that was trained before, to train them further."""
    continued = PeftModel.from_pretrained(model, start, is_trainable=True)
    # Otherwise peft would ask the Hugging Face hub for the base that the adapter names.
    continued.active_peft_config.base_model_name_or_path = str(folder)
    return continued


def lora_config(recipe: Recipe) -> LoraConfig:
    """Return peft's config for the recipe.

    Without dropout: it makes resumed runs differ, and short runs do not overfit.
    """
    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=0.0,
        target_modules=list(recipe.targets),
        use_rslora=recipe.rslora,
        use_dora=recipe.dora,
    )


def four_bits(dtype: str) -> BitsAndBytesConfig:
    """Return the config of NF4 with double quantisation (Dettmers et al. 2023, QLoRA, arXiv 2305.14314)."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )


def _keep_differentiable(model: nn.Module) -> None:
    """Keep bitsandbytes 0.50 from packing 4-bit weights for AVX-512 at the first evaluation.

    It never unpacks them when training goes on, and its kernel for packed weights has no gradient, so that all layers
    but the last would stop learning without an error.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def check_targets(model: nn.Module, targets: tuple[str, ...]) -> None:
    """Raise `RecipeRefused` when a target is not a linear module of the model's layers."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    linear = {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }
    if unknown := [target for target in targets if target not in linear]:
        raise RecipeRefused(f"the model has no linear module `{unknown[0]}`; it has {', '.join(sorted(linear))}")


def check_four_bits() -> None:
    """Raise `MachineRefused` when bitsandbytes cannot compute forwards and backwards in 4 bits here.

    It tries with one small layer.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        import bitsandbytes  # noqa: PLC0415 - it looks for its library when it is imported

        layer = bitsandbytes.nn.Linear4bit(64, 64, bias=False, quant_type="nf4", compute_dtype=torch.float32).to(device)
        inputs = torch.ones(2, 64, device=device, requires_grad=True)
        layer(inputs).sum().backward()
        is_finite = inputs.grad is not None and bool(inputs.grad.isfinite().all())
    except Exception as error:  # it raises whatever its native library does
        raise MachineRefused(
            f"bitsandbytes cannot compute in 4 bits on this {device} ({error}): train with `ponder train lora`"
        ) from error
    if not is_finite:
        raise MachineRefused(f"bitsandbytes computes nonsense in 4 bits on this {device}: train with `ponder train lora`")


def num_parameters(model: nn.Module) -> int:
    """Return the number of all parameters; a byte of a base in 4 bits holds two."""
    if isinstance(model, PeftModel):
        return int(model.get_nb_trainable_parameters()[1])
    return sum(parameter.numel() for parameter in model.parameters())


def num_trainable(model: nn.Module) -> int:
    """Return the number of parameters that are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
