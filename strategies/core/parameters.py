"""The base of all parameters, and those that several strategies share. A shared parameter has the same bounds and meaning everywhere."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Params(BaseModel):
    """Base of the parameters of strategies and of verifiers: unknown ones are refused, and types are not converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @property
    def adapters(self) -> tuple[str, ...]:
        """Adapters that are needed besides the one that generates. They are leased with it, for the whole run.

        By default those of the values of the parameters, such as a chosen verifier.
        """
        return self._of_values("adapters")

    @property
    def models(self) -> tuple[str, ...]:
        """Models of the server that take part besides the one that generates, each on its own engine and at its own cost."""
        return self._of_values("models")

    def _of_values(self, kind: str) -> tuple[str, ...]:
        values = (getattr(self, name) for name in type(self).model_fields)
        return tuple(name for value in values for name in getattr(value, kind, ()))


NumAnswers = Annotated[int, Field(ge=1, le=256)]
"""`n`: how many answers are drawn; each strategy describes what they are to it."""

NumAttempts = Annotated[
    int, Field(ge=1, le=64, description="the most times that each answer may be begun or continued, the first time included")
]
"""`attempts` of the strategies that check lines while they are written."""

FirstAnswer = Annotated[
    Literal["greedy", "sample"],
    Field(description="`greedy`: the first answer begins as the most likely one; `sample`: it is drawn as the others"),
]
"""`first` of the same strategies."""

EquationCheck = Literal["none", "equations"]
"""`check`: whether a line of an answer that writes a false equation ends its branch."""

EquationFilter = Literal["none", "equations", "all_equations"]
"""`filter`: whether a false equation costs the vote: one in the answer, or also one in the thinking."""

Select = Annotated[
    Literal["score", "vote"],
    Field(description="`score`: the best candidate; `vote`: the answer whose candidates' scores add up to most"),
]
"""`select`: how scored candidates become an answer."""
