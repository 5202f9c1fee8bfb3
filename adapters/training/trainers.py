"""trl's trainers with what ours add: every batch is metered, every checkpoint is whole, progress is told to whoever wants to show it."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from trl import SFTTrainer

from adapters.training.data import IGNORED
from adapters.training.errors import MachineRefused
from adapters.training.work import TALLY_FILE, Meter, Tally

ROWS_TOGETHER = 256
"""Logits that are computed at once."""

NUM_KEPT = 2
"""Checkpoints: the newest, and the one before it in case the newest is not whole."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is.

    Attributes:
        loss: of the last steps, `score` of the last look at the validation data; None before the first.
        tally: what it has cost.

    """

    step: int
    num_steps: int
    loss: float | None
    score: float | None
    tally: Tally


Report = Callable[[Progress], None]


class Metered:
    """Before one of the trainers in a class's bases: counts what it computes and writes the count into each checkpoint, last."""

    meter: Meter
    skips_prompts = False

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        self.meter.add(inputs, learns=model.training, skips_prompts=self.skips_prompts)
        return super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc] # the trainer's

    def create_model_card(self, *_args: Any, **_kwargs: Any) -> None:
        """The run card takes its place."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        trainer: Any = self
        folder = Path(trainer.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{trainer.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)  # type: ignore[misc] # the trainer's
            self.meter.tally.write(folder)
        except Exception as error:
            size = 3 * sum(one.numel() * 4 for one in model.parameters() if one.requires_grad)  # weights and two moments
            is_full = shutil.disk_usage(folder.parent).free < size + (1 << 20)
            shutil.rmtree(folder, ignore_errors=True)
            if not is_full:
                raise
            kept = newest_checkpoint(folder.parent)
            raise MachineRefused(
                f"the disk is full: {folder.name} could not be written; {kept.name if kept else 'none'} is kept. Make room and start again"
            ) from error


class LearnedOnly(SFTTrainer):
    """Supervised fine-tuning whose logits are computed only where something is learned.

    trl does so on GPUs; on CPU it scores every position, which was 45 % of a step of SmolLM2-135M, and two thirds of them prompts.
    """

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,  # noqa: FBT001, FBT002 - the trainer's
        num_items_in_batch: Any = None,
    ) -> Any:
        if inputs["input_ids"].is_cuda:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        given = {name: value for name, value in inputs.items() if name != "labels"}
        labels = inputs["labels"][:, 1:]
        is_learned = labels != IGNORED
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        with self.accelerator.autocast():
            states = base.base_model(**given, use_cache=False).last_hidden_state[:, :-1]
            parts = zip(states[is_learned].split(ROWS_TOGETHER), labels[is_learned].split(ROWS_TOGETHER), strict=True)
            # logits are not kept but computed anew for the backward pass: those of a batch would be the largest thing in memory
            found = [checkpoint(_surprise, base.get_output_embeddings(), *part, use_reentrant=False) for part in parts]
        num_learned = is_learned.sum()
        accuracy = sum(num_right for _, num_right in found) / num_learned
        self._metrics["train" if model.training else "eval"]["mean_token_accuracy"].append(
            float(accuracy)
        )  # trl's own log of it
        return sum(total for total, _ in found) / (num_learned if num_items_in_batch is None else num_items_in_batch)


def _surprise(head: Any, states: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of `states` [rows, hidden] for `targets` [rows]: negative log-likelihood in nats, and how many are the likeliest."""
    logits = head(states).float()
    return functional.cross_entropy(logits, targets, reduction="sum"), (logits.detach().argmax(-1) == targets).sum()


class FineTuner(Metered, LearnedOnly):
    """Supervised fine-tuning."""

    skips_prompts = True


class Reporter(TrainerCallback):
    """Tells how far the run is, and has the loss of its end logged."""

    def __init__(self, report: Report, meter: Meter) -> None:
        self._report = report
        self._meter = meter
        self._loss: float | None = None
        self._score: float | None = None

    def on_log(self, _args: Any, _state: Any, _control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        self._loss = (logs or {}).get("loss", self._loss)
        self._score = (logs or {}).get("eval_loss", self._score)

    def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_log |= state.global_step == state.max_steps
        self._report(Progress(state.global_step, state.max_steps, self._loss, self._score, self._meter.tally))


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest that is whole: a killed run may leave half of one, which is removed here."""
    found = []
    for place in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        if not (place / TALLY_FILE).exists():
            shutil.rmtree(place, ignore_errors=True)
        elif number := re.search(r"\d+$", place.name):
            found.append((int(number[0]), place))
    return max(found)[1] if found else None
