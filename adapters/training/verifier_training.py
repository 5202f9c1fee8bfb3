"""Verifiers: an adapter that is taught to say one of two words about an answer (ORM) or about its last step (PRM).

What is learned is what is served: the loss is on the probability of yes against no as the next token after the filled template, and the
template is saved with the adapter (`ponder.json`). Labels may lie between 0 and 1: for a step, the share of continuations that end well
(Math-Shepherd's soft estimation, Wang et al. 2023, arXiv 2312.08935).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch.nn import functional
from transformers import Trainer, TrainingArguments

from adapters.disk import write_whole
from adapters.training.base import load_model, load_tokenizer
from adapters.training.card import RunCard
from adapters.training.checks import WORK_FOLDER, begin, check_space
from adapters.training.data import digest
from adapters.training.errors import DataRefused, RecipeRefused
from adapters.training.recipe import Job
from adapters.training.run import GIVEN, Origin, Surroundings, arguments, finish, head, tell_left_out
from adapters.training.scores import auroc
from adapters.training.trainers import Metered
from adapters.verifier_prompt import NOTES_FILE, Notes, VerifierPrompt

_PLACEHOLDER = re.compile(r"\{(question|answer)\}")

INQUIRY = VerifierPrompt(template="Question: {question}\nAnswer: {answer}\nIs this right so far?", yes=" Yes", no=" No")


@dataclass(frozen=True, slots=True)
class Labelled:
    """An answer, or the beginning of one, and how right it is, in [0, 1]. Those of one `group` are answers to one question."""

    question: str
    answer: str
    label: float
    group: str = ""


class _Verdicts(Trainer):
    """Cross-entropy of P(yes) / (P(yes) + P(no)) at the last token against the label."""

    words: tuple[int, int]

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **_: Any) -> Any:  # noqa: FBT001, FBT002
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], logits_to_keep=1).logits[:, -1]
        yes, no = self.words
        margins = logits[:, yes].float() - logits[:, no].float()
        loss = functional.binary_cross_entropy_with_logits(margins, inputs["verdict"])
        return (loss, {"margins": margins}) if return_outputs else loss

    def prediction_step(self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, *_: Any, **__: Any) -> Any:  # noqa: FBT001
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        return loss, None if prediction_loss_only else outputs["margins"], inputs["verdict"]


class VerdictTrainer(Metered, _Verdicts):
    """The same, metered."""


def train_verifier(
    job: Job,
    learned: Sequence[Labelled],
    watched: Sequence[Labelled],
    around: Surroundings,
    command: str,
    *,
    origin: Origin = GIVEN,
) -> RunCard:
    """Train on labels; the card has the area under the ROC curve on those that are watched.

    Raises `DataRefused` when all labels are alike or nothing is watched, `RecipeRefused` when the two words begin with the same token.
    """
    if len({one.label >= 0.5 for one in learned}) < 2:
        raise DataRefused(f"all {len(learned)} answers are {'right' if learned and learned[0].label >= 0.5 else 'wrong'}")
    tokenizer = load_tokenizer(job.model)
    words = [tokenizer.encode(word, add_special_tokens=False)[0] for word in (INQUIRY.yes, INQUIRY.no)]
    if words[0] == words[1]:
        raise RecipeRefused(f"{INQUIRY.yes!r} and {INQUIRY.no!r} begin with the same token of this model")
    rows, num_too_long = _encoded(tokenizer, learned, job.recipe.context)
    held_out, num_unwatched = _encoded(tokenizer, watched, job.recipe.context)
    if not rows or not held_out:
        raise DataRefused(
            f"of {len(learned)} answers to learn {num_too_long} are too long, of {len(watched)} to watch {num_unwatched}: "
            "none are left. Give more questions, or a larger --validation-share or --context"
        )
    data = {
        "examples": len(rows),
        "left out as too long": num_too_long + num_unwatched,
        "validation examples": len(held_out),
        "hash": digest(rows),
    }
    heading = head(job, command, data, origin)
    if card := begin(job.out, heading.fingerprint):
        return card
    tell_left_out(num_too_long + num_unwatched, job, around)
    model = load_model(job.model, job.recipe, job.dtype, job.start)
    check_space(job.out, model)
    trainer = VerdictTrainer(
        model=model,
        args=arguments(job, job.out / WORK_FOLDER, is_watched=True, config=TrainingArguments, remove_unused_columns=False),
        data_collator=lambda examples: _padded(examples, tokenizer.pad_token_id),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(held_out),
        compute_metrics=lambda found: {"auroc": auroc(found.predictions, found.label_ids >= 0.5)},
    )
    trainer.words = (words[0], words[1])
    write_whole(job.out / NOTES_FILE, Notes(inquiry=INQUIRY).normalised().decode())
    return finish(trainer, job, around, heading, tokenizer)


def filled(template: str, question: str, answer: str) -> str:
    """The prompt that the server would ask."""
    parts = {"question": question, "answer": answer}
    return _PLACEHOLDER.sub(lambda match: parts[match[1]], template)


def _encoded(tokenizer: Any, labelled: Sequence[Labelled], context: int) -> tuple[list[dict[str, Any]], int]:
    """Rows that fit, and how many do not."""
    rows = [
        {
            "input_ids": tokenizer.encode(filled(INQUIRY.template, one.question, one.answer), add_special_tokens=False),
            "verdict": one.label,
        }
        for one in labelled
    ]
    fitting = [row for row in rows if len(row["input_ids"]) <= context]
    return fitting, len(rows) - len(fitting)


def _padded(examples: Sequence[dict[str, Any]], pad: int) -> dict[str, torch.Tensor]:
    """On the left, so that every row ends with the token that is asked about."""
    longest = max(len(example["input_ids"]) for example in examples)
    missing = [longest - len(example["input_ids"]) for example in examples]
    return {
        "input_ids": torch.tensor([[pad] * gap + example["input_ids"] for gap, example in zip(missing, examples, strict=True)]),
        "attention_mask": torch.tensor([[0] * gap + [1] * (longest - gap) for gap in missing]),
        "verdict": torch.tensor([example["verdict"] for example in examples], dtype=torch.float32),
    }
