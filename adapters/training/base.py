"""The model that is trained: loaded in the right format, with fresh LoRA weights on the modules that were asked for."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model, prepare_model_for_kbit_training
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from adapters.training.errors import MachineRefused, RecipeRefused
from adapters.training.recipe import Recipe


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer with the chat template; raises `RecipeRefused` when there is none."""
    if not folder.is_dir():
        raise RecipeRefused(f"there is no model folder {folder}")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.chat_template is None:
        raise RecipeRefused(f"{folder} has no chat template: it is no model to chat with")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(folder: Path, recipe: Recipe, dtype: str, start: Path | None = None) -> Any:
    """The base, ready to be trained as the recipe says; raises `RecipeRefused` for modules that it does not have.

    Trained weights are float32: in bfloat16, updates of a thousandth of a weight are rounded away.
    """
    torch.manual_seed(recipe.seed)  # A is drawn at random
    options: dict[str, Any] = {"dtype": torch.float32 if recipe.method == "full" else getattr(torch, dtype)}
    if recipe.method == "qlora":
        check_four_bits()
        options["quantization_config"] = four_bits(dtype)
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, **options)
    model.config.use_cache = False
    if recipe.method == "full":
        return model
    check_targets(model, recipe.targets)
    if recipe.method == "qlora":
        _keep_differentiable(model)
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=recipe.recompute)
    return get_peft_model(model, lora(recipe)) if start is None else _continued(model, folder, start)


def skeleton(folder: Path) -> Any:
    """The base without weights, to look at its modules."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))


def _continued(model: Any, folder: Path, start: Path) -> Any:
    """With the weights of an adapter of the recipe's shape that was trained before."""
    continued = PeftModel.from_pretrained(model, start, is_trainable=True)
    # else peft asks the hub for what the adapter calls its base
    continued.active_peft_config.base_model_name_or_path = str(folder)
    return continued


def lora(recipe: Recipe) -> LoraConfig:
    """Without dropout: it would make a run that was killed hard to repeat, and short runs do not overfit."""
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
    """NF4 with double quantisation (Dettmers et al. 2023, QLoRA)."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )


def _keep_differentiable(model: nn.Module) -> None:
    """Keep bitsandbytes 0.50 from packing 4-bit weights for AVX-512 at the first look at the validation data.

    It never unpacks them when training goes on, and what multiplies packed weights has no gradient: all layers but the last would stop
    to learn, in silence.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def check_targets(model: nn.Module, targets: tuple[str, ...]) -> None:
    """Raise `RecipeRefused` when a target is no linear module of the model's layers."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    there = {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }
    if unknown := [target for target in targets if target not in there]:
        raise RecipeRefused(f"the model has no linear module `{unknown[0]}`; it has {', '.join(sorted(there))}")


def check_four_bits() -> None:
    """Raise `MachineRefused` when bitsandbytes cannot compute forwards and backwards in 4 bits here, which takes a moment to see."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        import bitsandbytes  # noqa: PLC0415 - it looks for its library when it is imported

        layer = bitsandbytes.nn.Linear4bit(64, 64, bias=False, quant_type="nf4", compute_dtype=torch.float32).to(device)
        given = torch.ones(2, 64, device=device, requires_grad=True)
        layer(given).sum().backward()
        is_finite = given.grad is not None and bool(given.grad.isfinite().all())
    except Exception as error:
        raise MachineRefused(
            f"bitsandbytes cannot compute in 4 bits on this {device} ({error}): train with `ponder train lora`"
        ) from error
    if not is_finite:
        raise MachineRefused(f"bitsandbytes computes nonsense in 4 bits on this {device}: train with `ponder train lora`")


def num_parameters(model: nn.Module) -> int:
    """All of them; two for each byte of a base in 4 bits."""
    if isinstance(model, PeftModel):
        return int(model.get_nb_trainable_parameters()[1])
    return sum(parameter.numel() for parameter in model.parameters())


def num_trainable(model: nn.Module) -> int:
    """Parameters that are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
