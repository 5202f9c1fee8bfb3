"""The options of `ponder train …` and `ponder prune`, from which the commands, their help and the README's tables are made."""

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from adapters.training.recipe import LoraShape, Optimiser, Packing, Schedule
from app.settings import DEFAULT_MODEL


class ValidatedSchedule(Schedule):
    """Training that may be watched."""

    help_group: ClassVar[str] = "Training"

    validation: Path | None = Field(None, description="chats to watch, and to stop in time by")

    @model_validator(mode="after")
    def _patience_has_something_to_watch(self) -> Self:
        if self.patience is not None and self.validation is None:
            message = "--patience needs --validation"
            raise ValueError(message)
        return self


class LoraOptions(Packing, ValidatedSchedule, LoraShape):
    """Supervised fine-tuning of a LoRA adapter on chats; only the last answer of each is learned."""

    data: Path = Field(description="chats to learn: JSON lines with `messages`, the last one the assistant's")
    out: Path = Field(description="folder of the result; while it runs, of its checkpoints")
    model: str = Field(DEFAULT_MODEL, description="base: the embedded model, or a folder")
    start: Path | None = Field(None, description="adapter to go on from, of the same rank and targets")


class QloraOptions(LoraOptions):
    """The same over a base in 4 bits (NF4, double quantisation). The adapter is served on the base as it is."""

    optim: Optimiser = Field("adamw_8bit", description="as `lora` has it")


class SamplingOptions(Schedule, LoraShape):
    """What is asked of a model that answers."""

    prompts: Path = Field(
        description="questions: JSON lines with `messages`; an `answer` or a `verifier` tells which answers are right"
    )
    out: Path = Field(description="folder of the result; `OUT.samples.jsonl` beside it keeps the answers")
    model: str = Field(DEFAULT_MODEL, description="base: the embedded model, or a folder")
    samples: int = Field(4, ge=1, le=64, description="answers to each question")
    temperature: float = Field(0.7, ge=0, le=2, description="of sampling")
    max_tokens: int = Field(256, ge=1, description="the most that an answer may have")
    concurrency: int = Field(8, ge=1, le=256, description="questions that are asked at a time")


class DistillOptions(Packing, ValidatedSchedule, SamplingOptions):
    """Learn a teacher's right answers, the shortest of each question, through LoRA."""

    teacher: str = Field(
        description="who answers: a model folder or id, `self` for the base itself (with `--start`: with that adapter), or the URL of an "
        "OpenAI-compatible server, whose key is PONDER_API_KEY"
    )
    teacher_model: str | None = Field(None, description="name of the model at that URL, when it has several")
    start: Path | None = Field(None, description="adapter to go on from, of the same rank and targets")
    keep: int = Field(1, ge=1, description="right answers of each question that are learned, the shortest ones")
    logits: bool = Field(
        False,
        description="learn the teacher's probabilities of each token too, without packing: a folder with the same tokenizer is needed",
    )

    @model_validator(mode="after")
    def _name_has_an_address(self) -> Self:
        if self.teacher_model is not None and not self.is_remote:
            message = "--teacher-model names a model of a server: give its URL as --teacher"
            raise ValueError(message)
        return self

    @property
    def is_remote(self) -> bool:
        """Whether the teacher answers at a URL."""
        return self.teacher.startswith(("http://", "https://"))


class VerifierOptions(SamplingOptions):
    """Teach an adapter to say whether an answer, or a step of one, is right."""

    kind: Literal["orm", "prm"] = Field("orm", description="judge whole answers (outcome), or each step (process)")
    generator: Path | None = Field(None, description="adapter whose answers are judged; by default the base's own")
    start: Path | None = Field(None, description="adapter to go on from, of the same rank and targets: who can solve can judge")
    rollouts: int = Field(4, ge=1, le=64, description="times that each step is continued, to see how often it ends well (prm)")
    steps: int = Field(4, ge=1, description="steps of an answer that are labelled (prm)")
    validation_share: float = Field(0.1, gt=0, lt=1, description="of the questions, kept to measure the verifier by")


class PruneOptions(ValidatedSchedule):
    """Make the base smaller, and let the unpruned model teach what is left."""

    data: Path = Field(description="chats: text to see what matters by, and to learn from the unpruned model on")
    out: Path = Field(description="folder of the smaller model")
    model: str = Field(DEFAULT_MODEL, description="base: the embedded model, or a folder")
    mlp_channels: int | None = Field(None, ge=1, description="channels of each MLP that stay, a multiple of 64")
    kv_heads: int | None = Field(None, ge=1, description="groups of attention heads that stay in each layer")
    layers: int | None = Field(None, ge=1, description="layers that stay")
    calibration: int = Field(128, ge=1, description="chats to see what matters by")
