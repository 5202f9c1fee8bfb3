"""The options of `ponder train …` and `ponder prune`.

The commands, their help and the documentation's tables are made from them.
"""

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from adapters.training.recipe import LoraShape, Optimiser, Packing, Schedule
from app.settings import DEFAULT_MODEL


class ValidatedSchedule(Schedule):
    """Training that may be evaluated on validation data."""

    help_group: ClassVar[str] = "Training"

    validation: Path | None = Field(None, description="chats to evaluate on, by which training can be stopped early")

    @model_validator(mode="after")
    def _patience_needs_validation(self) -> Self:
        if self.patience is not None and self.validation is None:
            message = "--patience needs --validation"
            raise ValueError(message)
        return self


class LoraOptions(Packing, ValidatedSchedule, LoraShape):
    """Supervised fine-tuning of a LoRA adapter on chats. Only the last message of each is learned."""

    data: Path = Field(description="chats to learn: JSON lines with `messages`, the last of which is the assistant's")
    out: Path = Field(description="folder of the result, and of the checkpoints while it runs")
    model: str = Field(DEFAULT_MODEL, description="base model: the embedded one, or a folder")
    start: Path | None = Field(None, description="adapter to train further, of the same rank and targets")
    chat_template: Path | None = Field(
        None, description="chat template instead of the base's; it is saved beside the adapter as `chat_template.jinja`"
    )


class QloraOptions(LoraOptions):
    """LoRA over a base in 4 bits (NF4, double quantisation). The adapter is served on the base without quantisation."""

    optim: Optimiser = Field("adamw_8bit", description="optimiser, one of those of `lora`")


class SamplingOptions(Schedule, LoraShape):
    """How a model is sampled for training data."""

    prompts: Path = Field(
        description="questions: JSON lines with `messages`; an `answer` or a `verifier` says which answers are right"
    )
    out: Path = Field(description="folder of the result; `OUT.samples.jsonl` beside it keeps the answers")
    model: str = Field(DEFAULT_MODEL, description="base model: the embedded one, or a folder")
    samples: int = Field(4, ge=1, le=64, description="answers that are sampled for each question")
    temperature: float = Field(0.7, ge=0, le=2, description="sampling temperature")
    max_tokens: int = Field(256, ge=1, description="most tokens of an answer")
    concurrency: int = Field(8, ge=1, le=256, description="questions that are asked at the same time")


class DistillOptions(Packing, ValidatedSchedule, SamplingOptions):
    """Distillation: learn a teacher's right answers, the shortest of each question, through LoRA."""

    teacher: str = Field(
        description="model that answers: a folder or an id, `self` for the base itself (with `--start`: with that adapter), or the URL "
        "of an OpenAI-compatible server, whose key is PONDER_API_KEY"
    )
    teacher_model: str | None = Field(
        None, description="name of the teacher at the URL of `--teacher`, when that server has several models"
    )
    start: Path | None = Field(None, description="adapter to train further, of the same rank and targets")
    keep: int = Field(1, ge=1, description="how many right answers to each question are learned; the shortest ones are taken")
    logits: bool = Field(
        False,
        description="learn the teacher's probabilities of each token too; the teacher must be a folder with the same tokenizer; no packing",
    )

    @model_validator(mode="after")
    def _name_has_an_address(self) -> Self:
        if self.teacher_model is not None and not self.is_remote:
            message = "--teacher-model names a model of a server: give its URL as --teacher"
            raise ValueError(message)
        return self

    @property
    def is_remote(self) -> bool:
        """Whether the teacher answers behind a URL."""
        return self.teacher.startswith(("http://", "https://"))


class VerifierOptions(SamplingOptions):
    """Train a verifier: an adapter that says whether an answer, or its last step, is right."""

    kind: Literal["orm", "prm"] = Field(
        "orm", description="score whole answers (outcome reward model), or each step (process reward model)"
    )
    generator: Path | None = Field(None, description="adapter whose answers are labelled; by default the base answers")
    start: Path | None = Field(
        None,
        description="adapter to train further, of the same rank and targets; one that solves the questions becomes a better verifier",
    )
    rollouts: int = Field(
        4, ge=1, le=64, description="times that each step is continued; its label is the share of right answers (prm)"
    )
    steps: int = Field(4, ge=1, description="most steps of an answer that are labelled (prm)")
    validation_share: float = Field(0.1, gt=0, lt=1, description="share of the questions that the verifier is measured on")


class PruneOptions(ValidatedSchedule):
    """Prune the base model, and train the pruned model to imitate the unpruned one."""

    data: Path = Field(description="chats that importance is measured on, and that the pruned model learns")
    out: Path = Field(description="folder of the pruned model")
    model: str = Field(DEFAULT_MODEL, description="base model: the embedded one, or a folder")
    mlp_channels: int | None = Field(None, ge=1, description="channels of each MLP that are kept, a multiple of 64")
    kv_heads: int | None = Field(None, ge=1, description="KV heads of each layer that are kept, each with its query heads")
    layers: int | None = Field(None, ge=1, description="layers that are kept")
    calibration: int = Field(128, ge=1, description="number of chats that importance is measured on")
