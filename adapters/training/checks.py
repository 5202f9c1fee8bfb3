"""What can be known to be wrong before anything is asked or computed."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from peft import get_peft_model

from adapters.config import CONFIG_FILE, AdapterConfig, read_config
from adapters.disk import flush, write_whole
from adapters.errors import AdapterError
from adapters.training.base import check_four_bits, check_targets, lora, num_trainable, skeleton
from adapters.training.card import RunCard, read_card
from adapters.training.data import read_chats
from adapters.training.errors import MachineRefused, RecipeRefused
from adapters.training.recipe import Job, Recipe
from adapters.training.trainers import NUM_KEPT
from adapters.weights import WEIGHTS_FILE

FINGERPRINT_FILE = "fingerprint"
WORK_FOLDER = "work"


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Nobody else works on the result in `out` within this block; raises `RecipeRefused` when somebody does already.

    Two processes would remove each other's checkpoints. The lock is the system's, so that a kill leaves none.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise MachineRefused(f"{out} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise RecipeRefused(f"another process works on {out}") from error
    try:
        yield
    finally:
        with suppress(OSError):  # there is something in it
            out.rmdir()
        os.close(descriptor)


def check_job(job: Job) -> None:
    """Raise what a run of the job would raise, as far as that does not depend on data which are still to be made.

    So a command that first asks a model for hours does not end with a word that could have been said at once.
    """
    check_vacant(job.out)
    if job.start is not None:
        check_start(job.start, job.recipe)
    if job.validation is not None:
        read_chats(job.validation)
    model = skeleton(job.model)
    if job.recipe.method != "full":
        check_targets(model, job.recipe.targets)
        model = get_peft_model(model, lora(job.recipe))
    check_space(job.out, model)
    if job.recipe.method == "qlora":
        check_four_bits()


def check_adapter(folder: Path) -> AdapterConfig:
    """What an adapter says of itself; raises `RecipeRefused` when there is none."""
    try:
        config = read_config(folder / CONFIG_FILE)
    except (OSError, AdapterError) as error:
        raise RecipeRefused(f"{folder} holds no adapter: {error}") from error
    if not (folder / WEIGHTS_FILE).is_file():
        raise RecipeRefused(f"{folder} holds no adapter: there is no {WEIGHTS_FILE}")
    return config


def check_start(start: Path, recipe: Recipe) -> None:
    """Raise `RecipeRefused` when there is no adapter to go on from, or one of another shape."""
    config = check_adapter(start)
    there = (config.r, config.lora_alpha, config.use_rslora, set(config.target_modules))
    if there != (recipe.rank, recipe.alpha, recipe.rslora, set(recipe.targets)):
        raise RecipeRefused(f"{start} has another rank, alpha, scaling or other targets than this run")


def check_vacant(out: Path) -> None:
    """Raise `RecipeRefused` when the folder holds something that is no run."""
    if not (out / FINGERPRINT_FILE).exists() and out.exists() and any(out.iterdir()):
        raise RecipeRefused(f"{out} is not empty and holds no run of ours: choose another folder")


def check_space(out: Path, model: torch.nn.Module) -> None:
    """Raise `MachineRefused` when the checkpoints and the result would not fit on the disk."""
    needed = (
        (3 * (NUM_KEPT + 2) + 1) * 4 * num_trainable(model)
    )  # one being written, the best, those kept: weights and two moments
    free = shutil.disk_usage(out).free
    if free < needed:
        raise MachineRefused(f"{out} has {free / 2**20:,.0f} MiB free, and this run needs {needed / 2**20:,.0f}")


def begin(out: Path, fingerprint: str) -> RunCard | None:
    """Make the folder for this run, or return the card of the same run when it is finished there.

    Raises `RecipeRefused` when another run is in the folder: its checkpoints fit other parameters.
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
        shutil.rmtree(out / WORK_FOLDER, ignore_errors=True)
    return card
