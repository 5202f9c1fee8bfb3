"""The hyper-parameters of a run, checked before anything is loaded.

The fields' descriptions are the help of the command-line options.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""All linear modules of a layer. LoRA on the attention's modules alone learns less (Schulman et al. 2025, "LoRA Without
Regret")."""

Method = Literal["lora", "qlora", "full"]

Optimiser = Literal["adamw_torch", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit"]
"""Names of optimisers in transformers. All but the first are bitsandbytes'."""


class LoraShape(BaseModel):
    """The shape of a LoRA adapter."""

    help_group: ClassVar[str] = "Adapter"

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(16, ge=1, le=256, description="rank of the weight updates")
    alpha: float = Field(32, gt=0, description="the updates are multiplied by alpha / rank")
    targets: tuple[str, ...] = Field(LINEAR, min_length=1, description="linear modules that get updates")
    rslora: bool = Field(False, description="multiply by alpha / sqrt(rank) instead (rsLoRA)")
    dora: bool = Field(False, description="train DoRA, which ponder does not serve")


class Schedule(BaseModel):
    """How any model is trained."""

    help_group: ClassVar[str] = "Training"

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: float = Field(
        5e-4, gt=0, lt=1, description="highest learning rate: it rises to it in the warm-up and falls to 0 along a cosine"
    )
    warmup: float = Field(0.03, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    optim: Optimiser = Field(
        "adamw_torch",
        description="optimiser: `adamw_torch`, or bitsandbytes' `adamw_8bit` (the default of `qlora`), `paged_adamw_8bit` or "
        "`paged_adamw_32bit`",
    )
    context: int = Field(512, ge=16, description="most tokens of a row; longer examples are left out and counted")
    batch: int = Field(4, ge=1, description="rows of one optimiser step")
    at_once: int = Field(
        1,
        ge=1,
        description="rows of a step that are computed together. Packed rows become one long row; on CPU, the cost of its attention grows "
        "with the square of its length",
    )
    epochs: float = Field(1, gt=0, description="passes over the data")
    max_steps: int | None = Field(None, ge=1, description="steps after which training ends in any case")
    every: int = Field(
        50, ge=1, description="steps between two checkpoints, and between two evaluations on the validation data"
    )
    patience: int | None = Field(
        None, ge=1, description="evaluations without a better loss that end the training early; the best checkpoint is kept"
    )
    recompute: bool = Field(False, description="gradient checkpointing: less memory, a third more FLOPs")
    seed: int = Field(0, ge=0, description="seed of the initial weights and of the order of the data")

    @model_validator(mode="after")
    def _batch_is_whole(self) -> Self:
        if self.batch % self.at_once:
            message = f"a batch of {self.batch} rows cannot be computed {self.at_once} at a time"
            raise ValueError(message)
        return self


class Packing(BaseModel):
    """How examples are put into rows."""

    help_group: ClassVar[str] = "Training"

    packing: bool = Field(True, description="put several examples into one row; they do not attend to one another")


class Recipe(Packing, Schedule, LoraShape):
    """All hyper-parameters of one run.

    `method` is `lora`, `qlora` (LoRA over a base in 4 bits) or `full` (all weights are trained).
    """

    method: Method = "lora"

    @property
    def described(self) -> dict[str, Any]:
        """The hyper-parameters that decide the result, as JSON values."""
        return self.model_dump(mode="json", exclude=set(LoraShape.model_fields) if self.method == "full" else None)


class Job(BaseModel):
    """Which model is trained, on which data, and where the result goes.

    Attributes:
        model: folder of the base, as transformers saves it.
        start: folder of an adapter of the same shape to train further, instead of a new one.
        chat_template: file with the template of the chats, instead of the base's; it is saved with the result.
        dtype: number format of the computation; the weights that are trained are float32.
        data: file of the chats to learn.
        validation: file of chats that are evaluated but not learned.
        out: folder of the result, and of the checkpoints until the run is finished.
        recipe: the hyper-parameters.

    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Path
    start: Path | None = None
    chat_template: Path | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    data: Path
    validation: Path | None = None
    out: Path
    recipe: Recipe = Recipe()
