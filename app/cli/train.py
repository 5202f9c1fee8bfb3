"""`ponder train …` and `ponder prune`: make adapters, verifiers and smaller models. A killed command continues when started again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from app.cli.client import exit_with_error, require_extra
from app.cli.model_options import GroupedCommand, takes_options
from app.lab.training.options import DistillOptions, LoraOptions, PruneOptions, QloraOptions, VerifierOptions

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Train LoRA adapters and verifiers.")


@app.command(cls=GroupedCommand)
@takes_options(LoraOptions)
def lora(options: LoraOptions) -> None:
    """Fine-tune a LoRA adapter on chats.

    Only the last answer of each chat is learned.
    """
    with _training() as commands:
        commands.fine_tune("lora", options)


@app.command(cls=GroupedCommand)
@takes_options(QloraOptions)
def qlora(options: QloraOptions) -> None:
    """Fine-tune a LoRA adapter over a base in 4 bits.

    The optimiser has 8 bits. The adapter is served on the base as it is, without quantisation.
    """
    with _training() as commands:
        commands.fine_tune("qlora", options)


@app.command(cls=GroupedCommand)
@takes_options(DistillOptions)
def distill(options: DistillOptions) -> None:
    """Train an adapter on the right answers of a teacher model.

    Of the right answers to a question, the shortest are learned.
    """
    with _training() as commands:
        commands.distill(options)


@app.command(cls=GroupedCommand)
@takes_options(VerifierOptions)
def verifier(options: VerifierOptions) -> None:
    """Train an adapter that scores answers, or steps of answers."""
    with _training() as commands:
        commands.verifier(options)


@takes_options(PruneOptions)
def prune(options: PruneOptions) -> None:
    """Make a model smaller.

    The original model teaches the smaller one, to recover what was lost.
    """
    with _training() as commands:
        commands.prune(options)


@contextmanager
def _training() -> Iterator[Any]:
    """Give the module that trains, and end the command with one line when it cannot.

    The module is imported only now, since torch, trl and peft take seconds.
    """
    require_extra("train", "peft", "trl", "datasets", "bitsandbytes")
    from adapters.training.errors import TrainingError  # noqa: PLC0415
    from app.engine.weights.conversions import ModelUnavailable  # noqa: PLC0415
    from app.lab.training import commands  # noqa: PLC0415

    try:
        yield commands
    except (ModelUnavailable, TrainingError) as error:
        exit_with_error(error)
    except KeyboardInterrupt:
        exit_with_error("stopped; the same command goes on from the last checkpoint")
