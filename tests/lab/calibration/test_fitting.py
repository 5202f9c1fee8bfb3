"""Estimators and prices are fitted to trajectories of invented questions with known probabilities."""

import random
from dataclasses import replace

import numpy as np
import pytest

from adapters.training.scores import auroc
from app.lab.calibration.cross_validation import assemble_policy, cross_validate, direct_flops, flops_per_token, stop
from app.lab.calibration.fitting import fit
from app.lab.calibration.observed_questions import ObservedQuestion
from app.lab.calibration.performance import PlanPerformance, calibration_error
from app.lab.calibration.policy_building import build_policy
from app.lab.calibration.pooled_questions import ReplayOutcome
from app.lab.calibration.trajectories import WaveRecord, wave_sizes
from app.request import Effort
from app.routing.features import prompt_features
from strategies.core.stopping_rule import Evidence
from strategies.core.values import AnswerKind, StopReason

SIZES = wave_sizes(4)
TOKENS = 20


def trajectory(chance: float, is_correctable: bool, generator: random.Random, flops: int = 1000) -> list[WaveRecord]:
    """Each answer is right with probability `chance`. Backtracking corrects a false answer often, or never.

    A token costs `flops`.
    """
    is_right = generator.random() < chance
    is_true = is_right or generator.random() < 0.3
    records, tokens, votes = [], 0, []
    for answers in SIZES:
        if len(votes) == 1 and not is_true:
            tokens += TOKENS
            is_true = is_right = is_correctable and generator.random() < 0.8
            votes[0] = is_right
        while len(votes) < answers:
            votes.append(is_right if not votes else generator.random() < chance)
            tokens += TOKENS
        leads = votes.count(True) * 2 > len(votes) if len(votes) > 1 else votes[0]
        counts = sorted((votes.count(True), votes.count(False)), reverse=True)
        evidence = Evidence(
            answers=len(votes), attempts=len(votes), leader=0, votes=tuple(count for count in counts if count),
            num_filtered=int(not is_true), num_unread=0, first_is_true=is_true, first_leads=votes[0] == leads,
            logprob=-0.1 if leads else -0.5, lowest=-0.5, tokens=tokens, length=TOKENS,
            first_logprobs=(-0.1 if is_right else -0.5,) * TOKENS,
        )  # fmt: skip
        records.append(WaveRecord(evidence, float(leads), tokens * flops))
    return records


@pytest.fixture(scope="module")
def observed() -> list[ObservedQuestion]:
    """Easy sums, long sums that backtracking corrects, and riddles that the model cannot solve."""
    generator = random.Random(0)
    kinds = [
        ("What is 1 + 2?", 0.95, True),
        ("What is 123 + 456 - 789 + 1011?", 0.4, True),
        ("A riddle of the king", 0.03, False),
    ]
    found = []
    for number in range(240):
        text, chance, is_correctable = kinds[number % 3]
        rows = [trajectory(chance, is_correctable, generator) for _ in range(4)]
        direct = ReplayOutcome(rows[0][0].right, rows[0][0].flops, 0, TOKENS, 1, StopReason.COMPLETED)
        found.append(ObservedQuestion(text, "t", 1, AnswerKind.MATH, direct, rows))
    return found


def test_answers_without_a_token_are_fitted_to(observed: list[ObservedQuestion]) -> None:
    empty = [
        replace(
            one,
            trajectories=[
                [replace(row, evidence=replace(row.evidence, tokens=0)) for row in rows] for rows in one.trajectories
            ],
        )
        for one in observed[:30]
    ]
    growth = fit(empty).gains[0][1][1]
    assert growth(np.zeros(growth.size)) == pytest.approx(0.0, abs=1e-6)


def test_difficulty_is_estimated_from_the_prompt_and_better_after_the_first_answer(observed: list[ObservedQuestion]) -> None:
    validation = cross_validate(observed, (0.05,))
    hard = np.array([one.wrong for one in observed])
    first = np.array([each[0].first_difficulty for each in validation.stopped[0.05]])
    assert auroc(validation.difficulties, hard) > 0.8
    assert auroc(first, hard) > auroc(validation.difficulties, hard)
    assert calibration_error(validation.difficulties, hard) < 0.1


def test_compute_is_spent_where_it_helps(observed: list[ObservedQuestion]) -> None:
    """It is spent neither on settled questions nor on hopeless ones."""
    file = assemble_policy(fit(observed), observed, model="m")
    price = 0.1 / direct_flops(observed)
    spent = {}
    for one in observed:
        difficulty = file.prompt_difficulty(prompt_features(one.text))
        flops = [stop(file, difficulty, price, row).flops for row in one.trajectories]
        spent.setdefault(one.text, []).append(np.mean(flops))
    easy, middling, hopeless = (np.mean(spent[text]) for text in spent)
    assert middling > 1.3 * easy
    assert middling > 1.3 * hopeless
    assert flops_per_token(observed) == pytest.approx(1000)


def test_a_higher_price_spends_fewer_flops(observed: list[ObservedQuestion]) -> None:
    validation = cross_validate(observed, (0.5, 0.05, 0.001))
    flops = [np.mean([[one.flops for one in each] for each in validation.stopped[price]]) for price in (0.5, 0.05, 0.001)]
    assert flops == sorted(flops)


def test_each_effort_has_its_price(observed: list[ObservedQuestion]) -> None:
    num = len(observed)
    direct = PlanPerformance("direct", np.full(num, 0.45), np.full(num, 2e4), np.ones(num))
    vote = PlanPerformance("vote n=4", np.full(num, 0.5), np.full(num, 8e4), np.full(num, 4.0))
    result = build_policy(observed, [direct, vote], model="m", kinds=frozenset({AnswerKind.MATH}))
    prices = result.file.prices
    assert prices[Effort.LOW] >= prices[Effort.MEDIUM] >= prices[Effort.HIGH]
    flops = [result.autos[effort].flops.mean() for effort in Effort]
    assert flops == sorted(flops)
    assert [one.plan for one in result.file.bins[0].measured] == [
        "direct",
        "vote n=4",
        "auto, low",
        "auto, medium",
        "auto, high",
    ]
    assert set(result.bins) <= set(range(5))


def test_probabilities_stand_for_known_answers(observed: list[ObservedQuestion]) -> None:
    """A question that is right with probability 0.7 counts as seven that are right and three that are wrong."""
    unsure = [with_right(one, 0.7 if "1 + 2" in one.text else 0.1) for one in observed]
    fitted = fit(unsure)
    estimates = {one.text: fitted.prompt_difficulty(prompt_features(one.text)) for one in unsure}
    assert list(estimates.values()) == pytest.approx([0.3, 0.9, 0.9], abs=0.06)
    file = assemble_policy(fitted, unsure, model="m")
    last = [stop(file, 0.9, 1e-12, one.trajectories[0]) for one in unsure]
    assert {one.right for one in last} == {0.7, 0.1}


def with_right(question: ObservedQuestion, right: float) -> ObservedQuestion:
    rows = [[replace(record, right=right) for record in row] for row in question.trajectories]
    return replace(question, trajectories=rows, direct=replace(question.direct, right=right))
