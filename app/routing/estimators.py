"""Fitted models as data: a few numbers in a JSON file, no code and no pickle."""

import hashlib
import math
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from app.routing.features import Features

Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e9, le=1e9)]
Share = Annotated[float, Field(ge=0, le=1)]


class Estimator(BaseModel):
    """A linear model of standardised features. Its output is a probability (`logistic`) or the sum itself (`identity`).

    Attributes:
        mean: the mean of each feature, which is subtracted from it.
        scale: what the difference from the mean is divided by, for each feature.
        weights: the weight of each standardised feature; `bias` is added to the sum.
        curve: (estimate, calibrated probability) pairs with rising estimates. A logistic output is interpolated between them.
            An empty curve leaves the output as it is.

    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    link: Literal["logistic", "identity"]
    mean: tuple[Number, ...] = Field(min_length=1, max_length=4096)
    scale: tuple[Annotated[Number, Field(gt=0)], ...]
    weights: tuple[Number, ...]
    bias: Number
    curve: tuple[tuple[Share, Share], ...] = Field((), max_length=256)

    # standardising is folded into the weights, so that an estimate is one dot product
    _folded_weights: Features = PrivateAttr()
    _folded_bias: float = PrivateAttr()

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if not len(self.mean) == len(self.scale) == len(self.weights):
            message = f"{len(self.weights)} weights, {len(self.mean)} means and {len(self.scale)} scales"
            raise ValueError(message)
        estimates = [estimate for estimate, _ in self.curve]
        if estimates != sorted(set(estimates)):
            message = "the estimates of the curve do not rise"
            raise ValueError(message)
        self._folded_weights = np.array(self.weights) / np.array(self.scale)
        self._folded_bias = self.bias - float(self._folded_weights @ np.array(self.mean))
        return self

    @property
    def size(self) -> int:
        """The number of features that the estimator takes."""
        return len(self.weights)

    def __call__(self, features: Features) -> float:
        """Return the estimate for features of shape (size,)."""
        value = float(self._folded_weights @ features) + self._folded_bias
        if self.link == "identity":
            return value
        # `math.exp` overflows beyond about 709
        probability = 1 / (1 + math.exp(-max(min(value, 700.0), -700.0)))
        if not self.curve:
            return probability
        estimates, calibrated = zip(*self.curve, strict=True)
        return float(np.interp(probability, estimates, calibrated))

    def many(self, features: Features) -> Features:
        """Return the (rows,) estimates for features of shape (rows, size)."""
        values: Features = features @ self._folded_weights + self._folded_bias
        if self.link == "identity":
            return values
        probabilities: Features = 1 / (1 + np.exp(-np.clip(values, -700, 700)))
        if not self.curve:
            return probabilities
        estimates, calibrated = zip(*self.curve, strict=True)
        curved: Features = np.interp(probabilities, estimates, calibrated)
        return curved


def digest_of(*parts: BaseModel) -> str:
    """Return a short hash of fitted numbers."""
    return hashlib.sha256("\n".join(one.model_dump_json() for one in parts).encode()).hexdigest()[:16]
