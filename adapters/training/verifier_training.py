"""Trains verifiers: adapters that say one of two words about a whole answer (ORM) or about its last step (PRM).

A verifier is trained on what it will be asked. The loss is on P(yes) / (P(yes) + P(no)) of the token after the filled
template, which is the score that the server computes, and the template is saved with the adapter in `ponder.json`.
Labels lie between 0 and 1.
"""

import re
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch.nn import functional
from transformers import Trainer, TrainingArguments

from adapters.digest import digest
from adapters.disk import write_whole
from adapters.training.base import load_model, load_tokenizer
from adapters.training.card import RunCard
from adapters.training.checks import WORK_FOLDER, check_space, open_run_folder
from adapters.training.cost import LABELS
from adapters.training.errors import DataRefused, RecipeRefused
from adapters.training.labelling import LabelledAnswer
from adapters.training.ports import USER_DATA, Provenance, TrainingEnvironment
from adapters.training.recipe import Job
from adapters.training.run import describe_run, finish, report_left_out, trainer_arguments
from adapters.training.scores import auroc
from adapters.training.trainers import MeteredTrainer
from adapters.verifier_prompt import PONDER_CONFIG_FILE, PonderConfig, VerifierPrompt

_PLACEHOLDER = re.compile(r"\{(question|answer)\}")

VERIFIER_PROMPT = VerifierPrompt(template="Question: {question}\nAnswer: {answer}\nIs this right so far?", yes=" Yes", no=" No")


class _YesNoTrainer(Trainer):
    """Binary cross-entropy of P(yes) / (P(yes) + P(no)) at the last token against the label.

    That probability is the sigmoid of the difference of the two logits, so the loss is computed from the difference.
    """

    words: tuple[int, int]

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **_: Any) -> Any:  # noqa: FBT001, FBT002
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], logits_to_keep=1).logits[:, -1]
        yes, no = self.words
        margins = logits[:, yes].float() - logits[:, no].float()
        loss = functional.binary_cross_entropy_with_logits(margins, inputs[LABELS])
        return (loss, {"margins": margins}) if return_outputs else loss

    def prediction_step(self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, *_: Any, **__: Any) -> Any:  # noqa: FBT001
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        return loss, None if prediction_loss_only else outputs["margins"], inputs[LABELS]


class VerifierTrainer(MeteredTrainer, _YesNoTrainer):
    """Trains a verifier and counts what that costs."""


def train_verifier(
    job: Job,
    training: Sequence[LabelledAnswer],
    validation: Sequence[LabelledAnswer],
    environment: TrainingEnvironment,
    command: str,
    *,
    provenance: Provenance = USER_DATA,
) -> RunCard:
    """Train on labelled answers; the card has the area under the ROC curve on the validation answers.

    Raises:
        DataRefused: all labels are alike, or no answer that fits the context is left on either side.
        RecipeRefused: the two words begin with the same token.

    """
    if not training:
        raise DataRefused("there is no whole answer to learn from: give more questions, or a larger --max-tokens")
    if len({one.label >= 0.5 for one in training}) < 2:
        raise DataRefused(f"all {len(training)} answers are {'right' if training[0].label >= 0.5 else 'wrong'}")
    tokenizer = load_tokenizer(job.model)
    words = [tokenizer.encode(word, add_special_tokens=False)[0] for word in (VERIFIER_PROMPT.yes, VERIFIER_PROMPT.no)]
    if words[0] == words[1]:
        raise RecipeRefused(f"{VERIFIER_PROMPT.yes!r} and {VERIFIER_PROMPT.no!r} begin with the same token of this model")
    rows, num_too_long = _encode(tokenizer, training, job.recipe.context)
    validation_rows, num_validation_too_long = _encode(tokenizer, validation, job.recipe.context)
    if not rows or not validation_rows:
        raise DataRefused(
            f"of {len(training)} answers for training {num_too_long} are too long, of {len(validation)} for validation "
            f"{num_validation_too_long}: none are left. Give more questions, or a larger --validation-share or --context"
        )
    data = {
        "examples": len(rows),
        "left out as too long": num_too_long + num_validation_too_long,
        "validation examples": len(validation_rows),
        "hash": digest([{"input_ids": row["input_ids"], "verdict": row[LABELS]} for row in rows]),  # as ponder 0.1 hashed them
    }
    header = describe_run(job, command, data, provenance)
    if card := open_run_folder(job.out, header.fingerprint):
        return card
    report_left_out(num_too_long + num_validation_too_long, job, environment)
    model = load_model(job.model, job.recipe, job.dtype, job.start)
    check_space(job.out, model)
    trainer = VerifierTrainer(
        model=model,
        args=trainer_arguments(
            job, job.out / WORK_FOLDER, has_validation=True, config=TrainingArguments, remove_unused_columns=False
        ),
        data_collator=lambda examples: _collate(examples, tokenizer.pad_token_id),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(validation_rows),
        compute_metrics=lambda found: {"auroc": auroc(found.predictions, found.label_ids >= 0.5)},
    )
    trainer.words = (words[0], words[1])
    write_whole(job.out / PONDER_CONFIG_FILE, PonderConfig(verifier_prompt=VERIFIER_PROMPT).to_json())
    return finish(trainer, job, environment, header, tokenizer)


def fill_template(template: str, question: str, answer: str) -> str:
    """Return the prompt that the server would ask.

    All placeholders are replaced in one pass, so that a placeholder within a question stays as it is.
    """
    values = {"question": question, "answer": answer}
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def _encode(tokenizer: Any, labelled: Sequence[LabelledAnswer], context: int) -> tuple[list[dict[str, Any]], int]:
    """Return the rows of at most `context` tokens, and how many are longer."""
    rows = [
        {
            "input_ids": tokenizer.encode(
                fill_template(VERIFIER_PROMPT.template, one.question, one.answer), add_special_tokens=False
            ),
            LABELS: one.label,
        }
        for one in labelled
    ]
    fitting = [row for row in rows if len(row["input_ids"]) <= context]
    return fitting, len(rows) - len(fitting)


def _collate(examples: Sequence[dict[str, Any]], pad: int) -> dict[str, torch.Tensor]:
    """Make a batch of rows, padded on the left, so that every row ends with the token whose logits are compared."""
    longest = max(len(example["input_ids"]) for example in examples)
    missing = [longest - len(example["input_ids"]) for example in examples]
    return {
        "input_ids": torch.tensor([[pad] * gap + example["input_ids"] for gap, example in zip(missing, examples, strict=True)]),
        "attention_mask": torch.tensor([[0] * gap + [1] * (longest - gap) for gap in missing]),
        LABELS: torch.tensor([example[LABELS] for example in examples], dtype=torch.float32),
    }
