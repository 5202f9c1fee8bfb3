"""The file of the general estimator, which comes with the package: fitted numbers for every model, and prices.

It was fitted to labelled pools of several models (`python -m benchmarks.general`), and it knows no model by its name.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.request import Effort
from app.routing.estimators import Estimator
from app.routing.general_features import ANSWER_FEATURES, FIRST_TOKEN_FEATURES, NUM_GENERAL_FEATURES, NUM_WORK_FEATURES
from app.routing.policy_file import Positive, Stage, check_stages


class GeneralFile(BaseModel):
    """The general estimator and its policy.

    Attributes:
        provenance: how and when it was made, for people.
        prompt_difficulty: several estimators of the probability that the first answer is wrong, from the prompt alone. Each was fitted
            without some families of questions, so what they disagree on is what the estimator is not sure of.
        first_tokens: an estimator of the same, from the work that the prompt asks for and the first tokens of the answer.
        stages: by the number of answers, rising.
        prices: the accuracy (1 is all questions) that a token must gain, by effort.
        temperature: at which the samples were drawn.
        attempts: how often an answer may be begun or continued, at most.

    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1]
    provenance: dict[str, Any]
    prompt_difficulty: tuple[Estimator, ...] = Field(min_length=1, max_length=64)
    first_tokens: Estimator
    stages: tuple[Stage, ...] = Field(min_length=2, max_length=32)
    prices: dict[Effort, Positive]
    temperature: Annotated[float, Field(gt=0, le=2)]
    attempts: Annotated[int, Field(ge=1, le=64)]

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        for estimator in self.prompt_difficulty:
            if estimator.size != NUM_GENERAL_FEATURES:
                raise ValueError(f"`prompt_difficulty` takes {estimator.size} features, not {NUM_GENERAL_FEATURES}")
        if self.first_tokens.size != NUM_WORK_FEATURES + len(FIRST_TOKEN_FEATURES):
            raise ValueError(f"`first_tokens` takes {self.first_tokens.size} features")
        check_stages(self.stages, len(ANSWER_FEATURES))
        if set(self.prices) != set(Effort):
            raise ValueError(f"prices are needed for all of {', '.join(Effort)}")
        return self
