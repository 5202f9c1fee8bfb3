"""The options of `ponder calibrate` and `ponder cascade`. The commands and their help are made of them."""

from pathlib import Path
from typing import Any, Self

from pydantic import AliasChoices, BaseModel, Field, model_validator

from app.routing.cascade_limits import MAX_MEMBERS
from app.routing.pool_file import POOL
from app.settings import DEFAULT_MODEL

QUICK: dict[str, Any] = {"minutes": 10.0, "samples": 7, "backtracked": 7}
"""What --quick sets, unless another value was given."""

POOL_ONLY: dict[str, Any] = {"searches": (), "exits": 0}
"""What --unlabelled and a time limit set: a search needs to know what is right, and there is no time for any."""

LIVE_TOO = frozenset({"live", "out", "quick", "minutes", "unlabelled"})
"""The options that go with --live."""


class CalibrateOptions(BaseModel):
    """Measure what each plan costs and gains on questions, best with known answers. The command resumes where it was stopped."""

    data: Path | None = Field(
        None,
        description="questions: JSON lines with `messages` and an `answer` or a `verifier`; `task` and `bin` go into the report. "
        "With --unlabelled, `messages` or a `prompt` is enough, and a `.txt` file has one prompt a line",
    )
    out: Path = Field(description="folder of the result: the pool of answers, the policy and the report")
    unlabelled: bool = Field(
        False,
        description="use no answers of the data: how probably each answer is right is estimated from how far the answers agree",
    )
    live: Path | None = Field(
        None,
        description="instead of --data: a folder that a server has filled by live calibration; its answers are used, and none is drawn",
    )
    quick: bool = Field(
        False,
        description=f"a usable policy in {QUICK['minutes']:.0f} minutes: a time limit, fewer samples, no searches, no early exits",
    )
    minutes: float | None = Field(
        None,
        ge=1,
        description="time limit, with the start, the fitting and the report; questions are taken in a fixed random order until then",
    )
    model: str = Field(DEFAULT_MODEL, description="base model: the embedded one, or a folder")
    adapter: Path | None = Field(None, description="folder of the adapter that answers")
    verifier: Path | None = Field(None, description="folder of an adapter that scores the samples")
    samples: int = Field(16, ge=1, le=64, description="sampled answers to each question, besides a greedy one")
    backtracked: int = Field(
        7,
        ge=0,
        le=63,
        validation_alias=AliasChoices("backtracked", "mended"),
        description="number of sampled answers that backtrack at false lines, besides the greedy one",
    )
    attempts: int = Field(
        3, ge=1, le=64, description="the most times that each of them is begun or continued; with 1 no answer backtracks"
    )
    temperature: float = Field(0.7, gt=0, le=2, description="sampling temperature")
    alternatives: int = Field(
        0,
        ge=0,
        le=20,
        description="most probable tokens that the confidence in each token is the mean of; it is recorded, so that votes by "
        "confidence are replayed; 0 records none",
    )
    max_tokens: int = Field(384, ge=1, description="the most tokens of an answer")
    searches: tuple[str, ...] = Field(
        ('beam_search n=4 verifier=equations separator="\\n"',),
        description="searches that are run once on each question besides the pool: `strategy name=value …`, separated by commas",
    )
    exits: int = Field(
        1,
        ge=0,
        le=64,
        description="sampled answers to each question whose thinking is tried for early exits, if the model thinks; 0 for none",
    )
    dry_run: bool = Field(False, description="only estimate the duration on this machine, from a few of the questions")
    concurrency: int = Field(4, ge=1, le=64, description="number of questions that are answered at a time")

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if (self.data is None) == (self.live is None):
            raise ValueError("either --data or --live says where the questions are")
        if self.live is not None and (given := sorted(self.model_fields_set - LIVE_TOO)):
            raise ValueError(f"--{given[0]} does not go with --live: its answers are drawn already")
        return self

    @model_validator(mode="after")
    def _check_pool_only(self) -> Self:
        if self.is_pool_only and (
            given := sorted(name for name in POOL_ONLY if getattr(self, name) and name in self.model_fields_set)
        ):
            raise ValueError(f"--{given[0]} goes neither with --unlabelled nor with a time limit")
        return self

    @property
    def source(self) -> Path:
        """The file of the questions: with --live the pool, as it was copied."""
        return self.out / POOL if self.data is None else self.data

    @property
    def is_pool_only(self) -> bool:
        """Whether nothing is measured but the pool of answers."""
        return self.unlabelled or self.quick or self.minutes is not None or self.live is not None

    def completed(self) -> "CalibrateOptions":
        """Return the options with what --quick, --minutes, --unlabelled and --live set."""
        quick = {name: value for name, value in QUICK.items() if self.quick and name not in self.model_fields_set}
        live = {} if self.live is None else {"unlabelled": True}
        return self.model_copy(update={**quick, **(POOL_ONLY if self.is_pool_only else {}), **live})


class CascadeOptions(BaseModel):
    """Fit a cascade to what `ponder calibrate` measured of several models on the same questions."""

    pools: tuple[Path, ...] = Field(
        description="folders that `ponder calibrate` filled, one for each model or adapter, separated by commas",
        min_length=2,
        max_length=MAX_MEMBERS,
    )
    out: Path = Field(description="folder of the result: the cascade and its report")
