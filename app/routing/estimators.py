"""Fitted models as data: a few numbers in a JSON file, no code and no pickle."""

import math
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from app.routing.features import Features

Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e9, le=1e9)]
Share = Annotated[float, Field(ge=0, le=1)]


class Estimator(BaseModel):
    """A linear model of standardised features, as a probability (`logistic`) or as it is (`identity`).

    Attributes:
        mean: of each feature, `scale` what its difference from it is divided by.
        curve: (estimate, calibrated) pairs in rising order, between which a probability is interpolated; () leaves it alone.

    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    link: Literal["logistic", "identity"]
    mean: tuple[Number, ...] = Field(min_length=1, max_length=4096)
    scale: tuple[Annotated[Number, Field(gt=0)], ...]
    weights: tuple[Number, ...]
    bias: Number
    curve: tuple[tuple[Share, Share], ...] = Field((), max_length=256)

    _folded: Features = PrivateAttr()
    _constant: float = PrivateAttr()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not len(self.mean) == len(self.scale) == len(self.weights):
            message = f"{len(self.weights)} weights, {len(self.mean)} means and {len(self.scale)} scales"
            raise ValueError(message)
        said = [before for before, _ in self.curve]
        if said != sorted(set(said)):
            message = "the estimates of the curve do not rise"
            raise ValueError(message)
        self._folded = np.array(self.weights) / np.array(self.scale)
        self._constant = self.bias - float(self._folded @ np.array(self.mean))
        return self

    @property
    def size(self) -> int:
        """Features that it takes."""
        return len(self.weights)

    def __call__(self, features: Features) -> float:
        """The estimate for (size,) features."""
        value = float(self._folded @ features) + self._constant
        if self.link == "identity":
            return value
        probability = 1 / (1 + math.exp(-max(min(value, 700.0), -700.0)))
        if not self.curve:
            return probability
        before, after = zip(*self.curve, strict=True)
        return float(np.interp(probability, before, after))
