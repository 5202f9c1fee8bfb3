"""The general estimator is fitted to several models at once, and holds for a model that it has not seen."""

import random

import numpy as np
import pytest

from adapters.training.scores import auroc
from app.lab.calibration.general_fitting import MEMBERS, ModelQuestions, fit_general
from app.lab.calibration.observed_questions import ObservedQuestion
from app.lab.calibration.pooled_questions import ReplayOutcome
from app.request import Effort
from app.routing.general import GeneralPolicy
from app.routing.policy import Query
from strategies.core.values import AnswerKind, StopReason
from tests.lab.calibration.test_fitting import TOKENS, trajectory

PRICES = {Effort.LOW: 1e-3, Effort.MEDIUM: 3e-4, Effort.HIGH: 1e-4}
SIZES = (1e8, 1e9, 3e9)


def questions(seed: int) -> list[ObservedQuestion]:
    """Sums of ten families: the more numbers and digits, the more often wrong."""
    generator, found = random.Random(seed), []
    for number in range(150):
        terms, digits = generator.randint(2, 6), generator.randint(1, 4)
        text = " + ".join(str(generator.randrange(10 ** (digits - 1), 10**digits)) for _ in range(terms))
        chance = 1 / (1 + np.exp(terms + digits - 6))
        rows = [trajectory(chance, True, generator) for _ in range(2)]
        direct = ReplayOutcome(rows[0][0].right, rows[0][0].flops, 0, TOKENS, 1, StopReason.COMPLETED)
        found.append(ObservedQuestion(f"What is {text}?", f"family {number % 10}", 1, AnswerKind.MATH, direct, rows))
    return found


@pytest.fixture(scope="module")
def pools() -> list[ModelQuestions]:
    return [ModelQuestions(str(size), size, questions(seed)) for seed, size in enumerate(SIZES)]


def test_it_ranks_the_questions_of_a_model_that_it_has_not_seen(pools: list[ModelQuestions]) -> None:
    policy = GeneralPolicy(fit_general(pools[:2], PRICES))
    unseen = pools[2]
    estimates = [
        policy.difficulty(Query(one.kind, Effort.LOW, one.text, token_flops=unseen.token_flops)) for one in unseen.observed
    ]
    wrong = np.array([one.wrong for one in unseen.observed])
    assert auroc(np.array([one.probability for one in estimates if one is not None]), wrong) > 0.7


def test_each_member_is_fitted_without_a_part_of_the_families(pools: list[ModelQuestions]) -> None:
    file = fit_general(pools, PRICES, provenance={"how": "a test"})
    assert len(file.prompt_difficulty) == MEMBERS
    assert len({member.bias for member in file.prompt_difficulty}) == MEMBERS
    assert file.provenance == {"how": "a test"}


def test_pools_of_fewer_samples_are_fitted_together_with_larger_ones(pools: list[ModelQuestions]) -> None:
    """The last stages are fitted to the pools that have them."""
    first = pools[0]
    shorter = [
        ObservedQuestion(one.text, one.task, one.bin, one.kind, one.direct, [row[:2] for row in one.trajectories])
        for one in first.observed
    ]
    file = fit_general([ModelQuestions(first.model, first.token_flops, shorter), *pools[1:]], PRICES)
    assert [stage.answers for stage in file.stages] == [1, 2, 4]
    assert [[gain.stage for gain in stage.gains] for stage in file.stages] == [[1, 2], [2], []]
