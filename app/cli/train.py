"""`ponder train …`: makes the adapters that the server swaps. Each command goes on where it was killed."""

from typing import Any, TypeVar

import typer
from pydantic import BaseModel

from app.cli.client import fail, need
from app.lab.training.options import DistillOptions, LoraOptions, PruneOptions, QloraOptions, VerifierOptions
from app.settings import BadOptions, parse_options

app = typer.Typer(no_args_is_help=True, help="Train LoRA adapters and verifiers for a model.")

M = TypeVar("M", bound=BaseModel)

PASSED_ON: dict[str, Any] = {
    "context_settings": {"ignore_unknown_options": True, "allow_extra_args": True},
    "add_help_option": False,
}
"""The options are the models' of `app.lab.training.options`, which parse what follows the command, `--help` among it."""


@app.command(**PASSED_ON)
def lora(context: typer.Context) -> None:
    """Supervised fine-tuning of a LoRA adapter on chats."""
    options = _options(LoraOptions, context)
    _commands().fine_tune("lora", options)


@app.command(**PASSED_ON)
def qlora(context: typer.Context) -> None:
    """The same over a base in 4 bits, with an 8-bit optimiser."""
    options = _options(QloraOptions, context)
    _commands().fine_tune("qlora", options)


@app.command(**PASSED_ON)
def distill(context: typer.Context) -> None:
    """Learn a teacher's right answers, the shortest of each question."""
    options = _options(DistillOptions, context)
    _commands().distill(options)


@app.command(**PASSED_ON)
def verifier(context: typer.Context) -> None:
    """Teach an adapter to say whether an answer, or a step of one, is right."""
    options = _options(VerifierOptions, context)
    _commands().verifier(options)


def prune(context: typer.Context) -> None:
    """Make a model smaller, and let the unpruned one teach what is left."""
    options = _options(PruneOptions, context)
    _commands().prune(options)


def _commands() -> Any:
    """What does the work; imported only now, since torch, trl and peft take seconds."""
    from app.lab.training import commands  # noqa: PLC0415

    return commands


def _options(model: type[M], context: typer.Context) -> M:
    """What the command line says; ends the command in one line when that is wrong, or when what trains is not installed."""
    try:
        options = parse_options(model, context.command_path, context.args)
    except BadOptions as error:
        fail(error)
    need("train", "peft", "trl", "datasets", "bitsandbytes")
    return options
