"""Finds mistakes before a model is asked or anything is computed."""

import shutil
from pathlib import Path

import torch
from peft import get_peft_model

from adapters.disk import flush, write_whole
from adapters.training.base import check_four_bits, check_targets, lora_config, num_trainable, skeleton
from adapters.training.card import RunCard, read_card
from adapters.training.data import read_chats
from adapters.training.errors import MachineRefused, RecipeRefused
from adapters.training.folders import check_adapter
from adapters.training.recipe import Job, Recipe
from adapters.training.trainers import NUM_CHECKPOINTS

FINGERPRINT_FILE = "fingerprint"
WORK_FOLDER = "work"


def check_job(job: Job) -> None:
    """Raise what a run of the job would raise, as far as that does not depend on data which are still to be made.

    A command that first asks a model for hours shall not end with an error that could have been raised at once.
    """
    check_vacant(job.out)
    if job.start is not None:
        check_start(job.start, job.recipe)
    if job.validation is not None:
        read_chats(job.validation)
    model = skeleton(job.model)
    if job.recipe.method != "full":
        check_targets(model, job.recipe.targets)
        model = get_peft_model(model, lora_config(job.recipe))
    check_space(job.out, model)
    if job.recipe.method == "qlora":
        check_four_bits()


def check_start(start: Path, recipe: Recipe) -> None:
    """Raise `RecipeRefused` when the folder holds no adapter, or one of another shape than the recipe's."""
    config = check_adapter(start)
    shape = (config.r, config.lora_alpha, config.use_rslora, set(config.target_modules))
    if shape != (recipe.rank, recipe.alpha, recipe.rslora, set(recipe.targets)):
        raise RecipeRefused(f"{start} has another rank, alpha, scaling or other targets than this run")


def check_vacant(out: Path) -> None:
    """Raise `RecipeRefused` when the folder holds files that do not belong to a run."""
    if not (out / FINGERPRINT_FILE).exists() and out.exists() and any(out.iterdir()):
        raise RecipeRefused(f"{out} is not empty and holds no run of ours: choose another folder")


def check_space(out: Path, model: torch.nn.Module) -> None:
    """Raise `MachineRefused` when the checkpoints and the result would not fit on the disk."""
    # A checkpoint has the weights and Adam's two moments, in float32. At the worst there are those that are kept, the
    # best one, and
    # one that is being written; then the result.
    needed = (3 * (NUM_CHECKPOINTS + 2) + 1) * 4 * num_trainable(model)
    free = shutil.disk_usage(out).free
    if free < needed:
        raise MachineRefused(f"{out} has {free / 2**20:,.0f} MiB free, and this run needs {needed / 2**20:,.0f}")


def open_run_folder(out: Path, fingerprint: str) -> RunCard | None:
    """Make the folder of a run and mark it as this run's; return the card when the same run is finished there already.

    Raises:
        RecipeRefused: another run is in the folder, whose checkpoints fit other data or parameters.
        MachineRefused: the folder cannot be written.

    """
    mark = out / FINGERPRINT_FILE
    try:
        out.mkdir(parents=True, exist_ok=True)
        check_vacant(out)
        if mark.exists() and mark.read_text(encoding="utf-8") != fingerprint:
            raise RecipeRefused(f"{out} holds a run with other data or parameters: choose another folder, or remove it")
        write_whole(mark, fingerprint)
    except OSError as error:
        raise MachineRefused(f"{out} cannot be written: {error.strerror}") from error
    flush(out)
    if card := read_card(out):
        shutil.rmtree(out / WORK_FOLDER, ignore_errors=True)  # a kill between the card and this leaves it
    return card
