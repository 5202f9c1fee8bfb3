"""Estimators and prices from trajectories of made-up questions, whose truth is known."""

import random

import numpy as np
import pytest

from adapters.training.scores import auroc
from app.lab.calibration.fitting import Observed, fit
from app.lab.calibration.policy_building import make
from app.lab.calibration.pricing import cross, direct_flops, end, flops_per_token, policy_of
from app.lab.calibration.questions import Replayed
from app.lab.calibration.summary import Worth, calibration_error
from app.lab.calibration.trajectories import Stage, ladder
from app.request import Effort
from app.routing.features import prompt_features
from strategies.core.stopping_rule import Evidence
from strategies.core.values import AnswerKind, StopReason

WAVES = ladder(4)
TOKENS = 20


def trajectory(chance: float, mends: bool, draw: random.Random) -> list[Stage]:
    """A question that an answer gets right by chance; where a line is false, mending helps or never does."""
    is_right = draw.random() < chance
    is_true = is_right or draw.random() < 0.3
    stages, tokens, votes = [], 0, []
    for answers in WAVES:
        if len(votes) == 1 and not is_true:
            tokens += TOKENS
            is_true = is_right = mends and draw.random() < 0.8
            votes[0] = is_right
        while len(votes) < answers:
            votes.append(is_right if not votes else draw.random() < chance)
            tokens += TOKENS
        leads = votes.count(True) * 2 > len(votes) if len(votes) > 1 else votes[0]
        counts = sorted((votes.count(True), votes.count(False)), reverse=True)
        evidence = Evidence(
            answers=len(votes), attempts=len(votes), leader=0, votes=tuple(count for count in counts if count),
            num_set_aside=int(not is_true), num_unread=0, first_is_true=is_true, first_leads=votes[0] == leads,
            logprob=-0.1 if leads else -0.5, lowest=-0.5, tokens=tokens, length=TOKENS,
        )  # fmt: skip
        stages.append(Stage(evidence, leads, tokens * 1000))
    return stages


@pytest.fixture(scope="module")
def observed() -> list[Observed]:
    """Easy sums, long ones that can be mended, and riddles that nobody solves."""
    draw = random.Random(0)
    kinds = [
        ("What is 1 + 2?", 0.95, True),
        ("What is 123 + 456 - 789 + 1011?", 0.4, True),
        ("A riddle of the king", 0.03, False),
    ]
    found = []
    for number in range(240):
        text, chance, mends = kinds[number % 3]
        rows = [trajectory(chance, mends, draw) for _ in range(4)]
        direct = Replayed(rows[0][0].is_right, rows[0][0].flops, 0, TOKENS, 1, StopReason.COMPLETED)
        found.append(Observed(text, "t", 1, direct, rows))
    return found


def test_difficulty_is_told_from_the_prompt_and_told_better_from_the_answer(observed: list[Observed]) -> None:
    crossed = cross(observed, (0.05,))
    hard = np.array([one.is_hard for one in observed])
    first = np.array([each[0].first for each in crossed.ended[0.05]])
    assert auroc(crossed.difficulties, hard) > 0.8
    assert auroc(first, hard) > auroc(crossed.difficulties, hard)
    assert calibration_error(crossed.difficulties, hard) < 0.1


def test_compute_goes_where_it_helps(observed: list[Observed]) -> None:
    """Not to what is settled, and not to what is hopeless."""
    file = policy_of(fit(observed), observed, model="m")
    price = 0.1 / direct_flops(observed)
    spent = {}
    for one in observed:
        difficulty = file.prompt_difficulty(prompt_features(one.text))
        ended = [end(file, difficulty, price, row).flops for row in one.trajectories]
        spent.setdefault(one.text, []).append(np.mean(ended))
    easy, middling, hopeless = (np.mean(spent[text]) for text in spent)
    assert middling > 1.3 * easy
    assert middling > 1.3 * hopeless
    assert flops_per_token(observed) == pytest.approx(1000)


def test_a_dearer_price_buys_less(observed: list[Observed]) -> None:
    crossed = cross(observed, (0.5, 0.05, 0.001))
    flops = [np.mean([[one.flops for one in each] for each in crossed.ended[price]]) for price in (0.5, 0.05, 0.001)]
    assert flops == sorted(flops)


def test_three_efforts_are_three_prices(observed: list[Observed]) -> None:
    num = len(observed)
    direct = Worth("direct", np.full(num, 0.45), np.full(num, 2e4), np.ones(num))
    vote = Worth("vote n=4", np.full(num, 0.5), np.full(num, 8e4), np.full(num, 4.0))
    made = make(observed, [direct, vote], model="m", kinds=frozenset({AnswerKind.MATH}))
    prices = made.file.prices
    assert prices[Effort.LOW] >= prices[Effort.MEDIUM] >= prices[Effort.HIGH]
    flops = [made.autos[effort].flops.mean() for effort in Effort]
    assert flops == sorted(flops)
    assert [one.plan for one in made.file.bins[0].measured] == ["direct", "vote n=4", "auto, low", "auto, medium", "auto, high"]
    assert set(made.bins) <= set(range(5))
