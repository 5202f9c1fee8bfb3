"""Policies whose estimators are constants, for tests of what is made of a policy."""

import itertools

import numpy as np

from app.engine.scripted import SMALL
from app.request import Effort
from app.routing.cascade_file import ESCALATION_FEATURES, CascadeFile, CascadeMember, Escalation
from app.routing.estimators import Estimator
from app.routing.features import EVIDENCE_FEATURES, NUM_PROMPT_FEATURES
from app.routing.policy_file import Bin, ExpectedGain, PolicyFile, Stage
from strategies.core.values import AnswerKind


def constant(value: float, size: int = len(EVIDENCE_FEATURES), link: str = "identity") -> Estimator:
    """An estimator that returns `value` for any features."""
    bias = value if link == "identity" else float(np.log(value / (1 - value)))
    return Estimator(link=link, mean=(0.0,) * size, scale=(1.0,) * size, weights=(0.0,) * size, bias=bias)


def policy(*, hard: float = 0.5, right: float = 0.5, gain: float = 0.1, **fields: object) -> PolicyFile:
    """A policy of three stages with 1, 2 and 4 answers. Each stage is expected to double the tokens, at 1000 FLOPs a token."""
    stage_answers = [1, 2, 4]
    stages = [
        Stage(
            answers=answers,
            right=constant(right, link="logistic"),
            gains=tuple(
                ExpectedGain(stage=later, expected=constant(gain), tokens=constant(float(np.log1p(later - number))))
                for later in range(number + 1, len(stage_answers))
            ),
        )
        for number, answers in enumerate(stage_answers)
    ]
    adaptive = Bin(plans=dict.fromkeys(Effort, "adaptive"))
    direct = Bin(plans=dict.fromkeys(Effort, "direct"))
    defaults = {
        "version": 1, "model": "m", "adapter": None, "provenance": {}, "architecture": SMALL.to_dict(), "temperature": 0.7, "attempts": 3,
        "kinds": [AnswerKind.MATH],
        "before": constant(hard, NUM_PROMPT_FEATURES, "logistic"), "edges": (0.2, 0.4, 0.6, 0.8), "flops_per_token": 1000.0,
        "prices": {"low": 1e-3, "medium": 1e-6, "high": 1e-7}, "stages": stages,
        "bins": (direct, adaptive, adaptive, adaptive, adaptive),
    }  # fmt: skip
    return PolicyFile(**{**defaults, **fields})


def cascade(*members: tuple[str, str | None, dict, float], after: float = 0.01) -> CascadeFile:
    """A cascade of members with a name, the hash of an adapter, an architecture, and the probability that each is wrong.

    `after` is that probability of each dearer member, once a cheaper one has answered. FLOPs cost next to nothing.
    """
    made = [
        CascadeMember(
            model=model, adapter=adapter, architecture=architecture, wrong=constant(wrong, NUM_PROMPT_FEATURES, "logistic"),
            log_flops=constant(float(place), NUM_PROMPT_FEATURES), if_right=(-1.0,), if_wrong=(1.0,),
        )
        for place, (model, adapter, architecture, wrong) in enumerate(members)
    ]  # fmt: skip
    escalations = [
        Escalation(first=first, other=other, wrong=constant(after, len(ESCALATION_FEATURES), "logistic"))
        for first, other in itertools.combinations(range(len(made)), 2)
    ]
    prices = dict.fromkeys(Effort, 1e-9)
    return CascadeFile(provenance={}, members=made, escalations=escalations, prices=prices)
