"""The file of a fitted cascade, which `ponder cascade` writes and a server reads: fitted numbers for a set of models and adapters."""

from itertools import combinations
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.errors import InvalidRequest
from app.request import Effort
from app.routing.cascade_limits import MAX_MEMBERS
from app.routing.estimators import Estimator, Number
from app.routing.features import NUM_PROMPT_FEATURES, Features
from app.routing.policy_file import Positive, parse_file

CASCADE = "auto"
"""The name of the policy that is a cascade: that of the model which it chooses for."""

MAX_BYTES = 2_000_000
"""The largest file that is read."""

LOWEST = 1e-3
"""The lowest probability of being wrong whose log-odds are read."""

ESCALATION_FEATURES = ("before, of the first", "after, of the first", "before, of the other")
"""What is known of another member once a first one has answered: the log-odds of three estimates of being wrong."""


def escalation_features(before: float, after: float | Features, other: float) -> Features:
    """Return the (len(ESCALATION_FEATURES),) features after an answer, from estimated probabilities of being wrong.

    Args:
        before: of the member that has answered, from the prompt.
        after: of the same, once its answers were seen; for (rows,) of them, a row of features for each is returned.
        other: of the member that may answer next, from the prompt.

    """
    estimates: Features = np.clip(np.stack(np.broadcast_arrays(before, after, other), axis=-1), LOWEST, 1 - LOWEST)
    odds: Features = np.log(estimates / (1 - estimates))
    return odds


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Changes = Annotated[tuple[Number, ...], Field(min_length=1, max_length=64)]


class CascadeMember(_Part):
    """A model or adapter of a cascade.

    Attributes:
        model: the name of the base model.
        adapter: the hash of the adapter's weights, None for the base model alone.
        architecture: of the measured model with its adapter. It tells apart two models of the same name.
        wrong: estimates from the prompt the probability that its answer is wrong.
        log_flops: estimates from the prompt the log of the FLOPs of its answer.
        if_right: by how much the log-odds of being wrong change once its answers are seen, where it is right: equally likely values.
        if_wrong: the same where it is wrong.

    """

    model: Annotated[str, Field(min_length=1, max_length=200)]
    adapter: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None
    architecture: dict[str, Any]
    wrong: Estimator
    log_flops: Estimator
    if_right: Changes
    if_wrong: Changes


class Escalation(_Part):
    """What the answer of one member says about a dearer one.

    Attributes:
        first: the place of the member that has answered.
        other: the place of the dearer member, which may answer next.
        wrong: estimates from `ESCALATION_FEATURES` the probability that the answer of the dearer one is wrong.

    """

    first: Annotated[int, Field(ge=0, lt=MAX_MEMBERS)]
    other: Annotated[int, Field(ge=0, lt=MAX_MEMBERS)]
    wrong: Estimator


class CascadeFile(_Part):
    """A fitted cascade.

    Attributes:
        provenance: how and when it was made, for people.
        members: the models and adapters, cheapest first.
        escalations: one for each pair of members.
        prices: the accuracy (1 is all questions) that a FLOP must gain, by effort.

    """

    version: Literal[1] = 1
    provenance: dict[str, Any]
    members: tuple[CascadeMember, ...] = Field(min_length=2, max_length=MAX_MEMBERS)
    escalations: tuple[Escalation, ...]
    prices: dict[Effort, Positive]

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        for member in self.members:
            if not member.wrong.size == member.log_flops.size == NUM_PROMPT_FEATURES:
                raise ValueError(f"the estimators of {member.model} do not take {NUM_PROMPT_FEATURES} features")
            if member.wrong.link != "logistic" or member.log_flops.link != "identity":
                raise ValueError(f"the estimators of {member.model} have the wrong links")
        if any(one.wrong.size != len(ESCALATION_FEATURES) or one.wrong.link != "logistic" for one in self.escalations):
            raise ValueError(
                f"the estimators of escalations take {len(ESCALATION_FEATURES)} features, and return probabilities"
            )
        pairs = sorted((one.first, one.other) for one in self.escalations)
        if pairs != list(combinations(range(len(self.members)), 2)):
            raise ValueError("one escalation is needed for each pair of members, from the cheaper to the dearer")
        if set(self.prices) != set(Effort):
            raise ValueError(f"prices are needed for all of {', '.join(Effort)}")
        return self


def parse_cascade(content: bytes) -> CascadeFile:
    """Parse the bytes of a cascade file; raises `InvalidRequest` with the first thing that is wrong with them."""
    if len(content) > MAX_BYTES:
        raise InvalidRequest(f"The cascade has {len(content)} bytes, and at most {MAX_BYTES} are read.")
    return parse_file(CascadeFile, content, "cascade")
