"""Policies whose estimators say the same whatever they are asked, for tests of what is made of them."""

from dataclasses import asdict

import numpy as np

from app.engine.scripted import SMALL
from app.request import Effort
from app.routing.estimators import Estimator
from app.routing.features import EVIDENCE, NUM_BUCKETS, NUMBERS
from app.routing.policy_file import Bin, Gain, PolicyFile, Stage
from strategies.core.values import AnswerKind

PROMPT = NUM_BUCKETS + len(NUMBERS)


def constant(value: float, size: int = len(EVIDENCE), link: str = "identity") -> Estimator:
    """One that says the same whatever it is asked."""
    bias = value if link == "identity" else float(np.log(value / (1 - value)))
    return Estimator(link=link, mean=(0.0,) * size, scale=(1.0,) * size, weights=(0.0,) * size, bias=bias)


def policy(*, hard: float = 0.5, right: float = 0.5, gain: float = 0.1, **fields: object) -> PolicyFile:
    """A policy of three stages: 1, 2 and 4 answers, each expected to double the tokens, at a thousand FLOPs each."""
    ladder = [1, 2, 4]
    stages = [
        Stage(
            answers=answers,
            right=constant(right, link="logistic"),
            gains=tuple(
                Gain(stage=later, expected=constant(gain), tokens=constant(float(np.log1p(later - number))))
                for later in range(number + 1, len(ladder))
            ),
        )
        for number, answers in enumerate(ladder)
    ]
    every = Bin(plans=dict.fromkeys(Effort, "adaptive"))
    easy = Bin(plans=dict.fromkeys(Effort, "direct"))
    given = {
        "version": 1, "model": "m", "adapter": None, "provenance": {}, "architecture": asdict(SMALL), "temperature": 0.7, "attempts": 3,
        "kinds": [AnswerKind.MATH],
        "before": constant(hard, PROMPT, "logistic"), "edges": (0.2, 0.4, 0.6, 0.8), "flops_per_token": 1000.0,
        "prices": {"low": 1e-3, "medium": 1e-6, "high": 1e-7}, "stages": stages, "bins": (easy, every, every, every, every),
    }  # fmt: skip
    return PolicyFile(**{**given, **fields})
