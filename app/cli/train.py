"""`ponder train …` and `ponder prune`: make adapters, verifiers and smaller models. A killed command continues when started again."""

from typing import Any

import typer

from app.cli.client import require_extra
from app.cli.model_options import GroupedCommand, takes_options
from app.lab.training.options import DistillOptions, LoraOptions, PruneOptions, QloraOptions, VerifierOptions

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Train LoRA adapters and verifiers.")


@app.command(cls=GroupedCommand)
@takes_options(LoraOptions)
def lora(options: LoraOptions) -> None:
    """Fine-tune a LoRA adapter on chats.

    Only the last answer of each chat is learned.
    """
    _commands().fine_tune("lora", options)


@app.command(cls=GroupedCommand)
@takes_options(QloraOptions)
def qlora(options: QloraOptions) -> None:
    """Fine-tune a LoRA adapter over a base in 4 bits.

    The optimiser has 8 bits. The adapter is served on the base as it is, without quantisation.
    """
    _commands().fine_tune("qlora", options)


@app.command(cls=GroupedCommand)
@takes_options(DistillOptions)
def distill(options: DistillOptions) -> None:
    """Learn the right answers of a teacher model.

    Of the right answers to a question, the shortest are learned.
    """
    _commands().distill(options)


@app.command(cls=GroupedCommand)
@takes_options(VerifierOptions)
def verifier(options: VerifierOptions) -> None:
    """Train an adapter that scores answers, or steps of answers."""
    _commands().verifier(options)


@takes_options(PruneOptions)
def prune(options: PruneOptions) -> None:
    """Make a model smaller.

    The original model teaches the smaller one, to recover what was lost.
    """
    _commands().prune(options)


def _commands() -> Any:
    """The module that trains. It is imported only now, since torch, trl and peft take seconds. Ends the command without them."""
    require_extra("train", "peft", "trl", "datasets", "bitsandbytes")
    from app.lab.training import commands  # noqa: PLC0415

    return commands
