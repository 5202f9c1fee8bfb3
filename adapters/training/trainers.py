"""trl's trainers with what ours need: every batch is counted, every checkpoint is whole, and progress is reported."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from trl import SFTTrainer

from adapters.training.cost import COST_FILE, RunMeter, write_cost
from adapters.training.data import IGNORED
from adapters.training.errors import MachineRefused
from adapters.training.ports import Progress

ROWS_TOGETHER = 256
"""Positions whose logits are computed together: 256 rows of 49,152 float32 logits are 48 MiB."""

NUM_CHECKPOINTS = 2
"""How many are kept: the newest, and the one before it in case a kill left the newest incomplete."""


class MeteredTrainer:
    """Mixin that counts what a trainer computes, and writes the cost into each checkpoint.

    It stands before one of transformers' trainers among the bases of a class. The cost is written last, so that its
    file marks a whole checkpoint.
    """

    meter: RunMeter
    skips_prompts = False

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        self.meter.add(inputs, has_backward=model.training, skips_prompts=self.skips_prompts)
        return super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc] # the trainer's

    def create_model_card(self, *_args: Any, **_kwargs: Any) -> None:
        """Do nothing: the run card takes the place of trl's model card."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        trainer: Any = self
        folder = Path(trainer.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{trainer.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)  # type: ignore[misc] # the trainer's
            write_cost(self.meter.cost, folder)
        except Exception as error:
            # safetensors and torch raise errors of their own for a full disk, so the disk is asked: is there room for
            # the weights and
            # Adam's two moments in float32?
            size = 3 * sum(one.numel() * 4 for one in model.parameters() if one.requires_grad)
            is_full = shutil.disk_usage(folder.parent).free < size + (1 << 20)
            shutil.rmtree(folder, ignore_errors=True)
            if not is_full:
                raise
            kept = newest_checkpoint(folder.parent)
            raise MachineRefused(
                f"the disk is full: {folder.name} could not be written; {kept.name if kept else 'none'} is kept. Make room and start again"
            ) from error


class AnswerLossTrainer(SFTTrainer):
    """Supervised fine-tuning that computes logits only at the positions of answers.

    trl does so on GPUs. On CPU it computes them at every position: 45 % of the time of a step of SmolLM2-135M was spent
    on logits, and two thirds of the positions were prompts, which are not learned.
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
            # Logits are computed again in the backward pass instead of kept: those of a batch would be the largest
            # thing in memory.
            found = [checkpoint(_chunk_loss, base.get_output_embeddings(), *part, use_reentrant=False) for part in parts]
        num_learned = is_learned.sum()
        accuracy = sum(num_right for _, num_right in found) / num_learned
        # trl logs the mean of this list.
        self._metrics["train" if model.training else "eval"]["mean_token_accuracy"].append(float(accuracy))
        return sum(total for total, _ in found) / (num_learned if num_items_in_batch is None else num_items_in_batch)


def _chunk_loss(head: Any, states: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the summed cross-entropy in nats, and how many targets are the likeliest token.

    `states` are [rows, hidden], `targets` are token ids [rows].
    """
    logits = head(states).float()
    return functional.cross_entropy(logits, targets, reduction="sum"), (logits.detach().argmax(-1) == targets).sum()


class FineTuner(MeteredTrainer, AnswerLossTrainer):
    """Supervised fine-tuning whose cost is counted."""

    skips_prompts = True


class ProgressCallback(TrainerCallback):
    """Reports how far the run is after each step, and has the loss of the last step logged."""

    def __init__(self, report: Callable[[Progress], None], meter: RunMeter) -> None:
        self._report = report
        self._meter = meter
        self._loss: float | None = None
        self._validation_loss: float | None = None

    def on_log(self, _args: Any, _state: Any, _control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        self._loss = (logs or {}).get("loss", self._loss)
        self._validation_loss = (logs or {}).get("eval_loss", self._validation_loss)

    def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_log |= state.global_step == state.max_steps
        self._report(Progress(state.global_step, state.max_steps, self._loss, self._validation_loss, self._meter.cost))


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint, None without one.

    Incomplete ones, which a killed run may leave, are removed.
    """
    found = []
    for place in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        if not (place / COST_FILE).exists():
            shutil.rmtree(place, ignore_errors=True)
        elif number := re.search(r"\d+$", place.name):
            found.append((int(number[0]), place))
    return max(found)[1] if found else None
