"""The field `ponder` of a request body, which is this server's own: how to answer, and what it may cost."""

from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, field_validator, model_validator

from app.api.body import INT64, ClosedBody, without_nulls
from app.errors import InvalidRequest
from app.request import Effort
from strategies.core.thinking import LONGEST_LANDING
from strategies.core.values import AnswerKind

ProgressForm = Literal["reasoning", "comments", "none"]


class BudgetBody(ClosedBody):
    """The most that this request may spend.

    `tokens` limits the generated tokens of all candidates together, `thinking_tokens` those that each candidate thinks,
    `total_thinking_tokens` those that all of them think. A candidate should think `min_thinking_tokens`; `thinking_landing` tells the
    model in its thinking that its tokens for it are nearly used up.
    """

    tokens: Annotated[int, Field(ge=1, le=INT64)] | None = None
    flops: Annotated[int, Field(ge=1, le=INT64)] | None = None
    seconds: Annotated[float, Field(gt=0, le=86_400)] | None = None
    thinking_tokens: Annotated[int, Field(ge=0, le=INT64)] | None = None
    total_thinking_tokens: Annotated[int, Field(ge=0, le=INT64)] | None = None
    min_thinking_tokens: Annotated[int, Field(ge=0, le=INT64)] | None = None
    thinking_landing: Annotated[str, Field(max_length=LONGEST_LANDING)] | None = None

    @field_validator("flops", mode="before")
    @classmethod
    def _accept_float(cls, value: object) -> object:
        """Accept a float such as 1e12, the usual way to write FLOPs."""
        return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= INT64 else value

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        least, most = self.min_thinking_tokens, self.thinking_tokens
        if least is not None and most is not None and least > most:
            message = f"ponder.budget.min_thinking_tokens: it is more than thinking_tokens, {most}."
            raise InvalidRequest(message, parameter="ponder.budget.min_thinking_tokens")
        return self


class PonderOptions(BaseModel):
    """How to answer. Fields other than these are the parameters of the strategy named (docs/use/strategies.md).

    `dry_run` asks for the plan and what it would take, and generates nothing; `show_nodes` lets a stream carry the search tree as it grows;
    `progress` says how a stream tells the progress of a search: as reasoning, as comments of the stream, or not at all.
    """

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, frozen=True)

    _leave_out_nulls = model_validator(mode="before")(without_nulls)

    @model_validator(mode="wrap")
    @classmethod
    def _check_writable(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Refuse what a reply could not repeat: integers of more than 64 bits."""
        options = handler(data)
        try:
            orjson.dumps(data if isinstance(data, dict) else None)
        except TypeError as error:
            message = f"a value cannot be written as JSON: {error}"
            raise ValueError(message) from None
        return options

    strategy: Annotated[str, Field(max_length=64)] | None = None  # not an enumeration, since plugins may add strategies
    budget: BudgetBody | None = None
    answer: AnswerKind | None = None
    effort: Effort | None = None
    risk: Annotated[float, Field(ge=0, le=1)] | None = None
    dry_run: bool = False
    show_nodes: bool = False
    progress: ProgressForm = "reasoning"

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of the strategy, not validated yet."""
        return dict(self.model_extra or {})
