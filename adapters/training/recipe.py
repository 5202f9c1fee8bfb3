"""How something is trained: every number that decides the result, checked before anything is loaded."""

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""All linear modules of a layer: LoRA on attention alone learns less (Schulman et al. 2025, "LoRA Without Regret")."""

Method = Literal["lora", "qlora", "full"]

Optimiser = Literal["adamw_torch", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit"]
"""As transformers names them; all but the first are bitsandbytes'."""


class LoraShape(BaseModel):
    """What an adapter is. The descriptions are the options' help, here and below."""

    help_group: ClassVar[str] = "Adapter"

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(16, ge=1, le=256, description="rank of the updates")
    alpha: float = Field(32, gt=0, description="updates are scaled by alpha / rank")
    targets: tuple[str, ...] = Field(LINEAR, min_length=1, description="linear modules to update")
    rslora: bool = Field(False, description="scale by alpha / sqrt(rank) instead")
    dora: bool = Field(False, description="train DoRA, which ponder does not serve")


class Schedule(BaseModel):
    """How anything is trained."""

    help_group: ClassVar[str] = "Training"

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: float = Field(5e-4, gt=0, lt=1, description="the highest: it rises at first, and falls to 0 along a cosine")
    warmup: float = Field(0.03, ge=0, lt=1, description="share of the steps in which it rises")
    optim: Optimiser = Field(
        "adamw_torch",
        description="`adamw_torch`, or of bitsandbytes `adamw_8bit` (the default of `qlora`), `paged_adamw_8bit`, `paged_adamw_32bit`",
    )
    context: int = Field(512, ge=16, description="tokens of a row; longer examples are left out and counted")
    batch: int = Field(4, ge=1, description="rows of one step")
    at_once: int = Field(
        1,
        ge=1,
        description="rows of a step that are computed together; packed ones become one long row, whose attention costs the square "
        "of its length where no kernel spares it, as on CPU",
    )
    epochs: float = Field(1, gt=0, description="passes over the data")
    max_steps: int | None = Field(None, ge=1, description="steps after which it ends in any case")
    every: int = Field(50, ge=1, description="steps between checkpoints and looks at the validation data")
    patience: int | None = Field(None, ge=1, description="looks without gain that end the run; the best one is kept")
    recompute: bool = Field(False, description="gradient checkpointing: less memory, a third more FLOPs")
    seed: int = Field(0, ge=0, description="of the first weights and of the order of the data")

    @model_validator(mode="after")
    def _batch_is_whole(self) -> Self:
        if self.batch % self.at_once:
            message = f"a batch of {self.batch} rows cannot be computed {self.at_once} at a time"
            raise ValueError(message)
        return self


class Packing(BaseModel):
    """How examples become rows."""

    help_group: ClassVar[str] = "Training"

    packing: bool = Field(True, description="put several examples into one row, none of which sees another")


class Recipe(Packing, Schedule, LoraShape):
    """Hyper-parameters of one run. `full`: all weights are trained; `qlora`: LoRA over a base in 4 bits."""

    method: Method = "lora"

    @property
    def described(self) -> dict[str, Any]:
        """Those that decide the result, as JSON values."""
        return self.model_dump(mode="json", exclude=set(LoraShape.model_fields) if self.method == "full" else None)


class Job(BaseModel):
    """What is trained on what, and where to.

    Attributes:
        model: folder of the base, as transformers saves it.
        start: folder of an adapter of the same shape to go on from, instead of one that changes nothing.
        dtype: number format that is computed in; the weights that are trained are float32.
        data: chats to learn; `validation` chats to watch.
        out: folder of the result, and of the checkpoints until it is there.

    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Path
    start: Path | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    data: Path
    validation: Path | None = None
    out: Path
    recipe: Recipe = Recipe()
