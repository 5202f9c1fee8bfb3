"""Votes of 16 by confidence, alone and together with the other rules, replayed over a pool and compared with the plain vote."""

import asyncio
import statistics
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.training.scores import auroc
from app.lab.calibration.evaluation import performance_of
from app.lab.calibration.performance import PlanPerformance, difference
from app.lab.calibration.pool import read_pool
from app.lab.calibration.pooled_questions import PooledQuestion, ReplayOutcome
from app.lab.calibration.replay import replay
from app.routing.pool_file import PoolSettings
from benchmarks.report import Table
from benchmarks.suite.families import FAMILIES, HELD_OUT
from strategies.answers.equivalence import Equivalence
from strategies.checking.sample_vote import MEASURES
from strategies.core.verifier import StrategyContext
from strategies.voting.confidence import GroupConfidence

ORDERS = 8
"""The number of orders of the samples. Each order is a run that could have happened."""

GROUP_TOKENS = 32

FEWER, SAME, MARGIN = 0.6, 1.005, 0.01
"""A vote is cheaper with at most `FEWER` of the plain vote's tokens, no dearer with at most `SAME` of them, and as accurate if it loses at
most `MARGIN` of all answers."""

PLAIN = "plain vote"

_ALL: dict[str, Any] = {"confidence": 1.0}
_WAVES: dict[str, Any] = {"schedule": "waves"}
_FILTER: dict[str, Any] = {"filter": "all_equations"}
_LOWEST: dict[str, Any] = {"weights": "lowest_group"}

PLANS: Mapping[str, dict[str, Any]] = {
    PLAIN: _ALL,
    "plain vote of 8": {**_ALL, "n": 8},
    "plain vote of 4": {**_ALL, "n": 4},
    "Beta rule": {},
    "Beta rule, waves": _WAVES,
    "consensus": {**_ALL, "consensus": 0.95},
    **{f"weights {measure}": {**_ALL, "weights": measure} for measure in MEASURES},
    **{f"weights lowest_group, groups of {size}": {**_ALL, **_LOWEST, "group_tokens": size} for size in (16, 64)},
    "keep 0.9": {**_ALL, "keep": 0.9},
    "keep 0.5": {**_ALL, "keep": 0.5},
    "keep 0.1": {**_ALL, "keep": 0.1},
    "keep 0.1, weights lowest_group": {**_ALL, "keep": 0.1, **_LOWEST},
    "cut 0.1": {**_ALL, "cut": 0.1},
    "cut 0.5": {**_ALL, "cut": 0.5},
    **{f"cut 0.5, groups of {size}": {**_ALL, "cut": 0.5, "group_tokens": size} for size in (16, 64)},
    "cut 0.9": {**_ALL, "cut": 0.9},
    "cut 0.1, weights lowest_group, consensus": {**_ALL, "cut": 0.1, **_LOWEST, "consensus": 0.95},
    "cut 0.9, weights lowest_group, consensus": {**_ALL, "cut": 0.9, **_LOWEST, "consensus": 0.95},
    "filter": {**_ALL, **_FILTER},
    "filter, Beta rule": _FILTER,
    "filter, weights lowest_group": {**_ALL, **_FILTER, **_LOWEST},
    "cut 0.5, filter": {**_ALL, **_FILTER, "cut": 0.5},
    "filter, Beta rule, waves": {**_FILTER, **_WAVES},
    "cut 0.5, Beta rule": {"cut": 0.5},
    "cut 0.5, Beta rule, waves": {"cut": 0.5, **_WAVES},
    "cut 0.9, Beta rule, waves": {"cut": 0.9, **_WAVES},
    "cut 0.5, filter, weights lowest_group, Beta rule, waves": {"cut": 0.5, **_FILTER, **_LOWEST, **_WAVES},
    "cut 0.9, filter, weights lowest_group, Beta rule, waves": {"cut": 0.9, **_FILTER, **_LOWEST, **_WAVES},
    "8 votes: filter, Beta rule, waves": {"n": 8, **_FILTER, **_WAVES},
    "8 votes: cut 0.5, filter, weights lowest_group, Beta rule, waves": {"n": 8, "cut": 0.5, **_FILTER, **_LOWEST, **_WAVES},
}
"""The parameters of `self_consistency`, with 16 samples if not said. The plain vote stops only when no answer can catch up."""


@dataclass(frozen=True)
class Replayed:
    """A plan on all questions.

    Attributes:
        tokens: mean number of decoded tokens per question.

    """

    performance: PlanPerformance
    tokens: float

    def row(self, plain: "Replayed") -> dict[str, Any]:
        """Return its row of the table, in which it is compared with the plain vote."""
        performance = self.performance
        gap, low, high = difference(performance, plain.performance)
        is_plain = performance.label == PLAIN
        return {
            "vote of 16": performance.label,
            "accuracy %": f"{100 * performance.mean:.1f} ({_percent(performance.interval)})",
            "points more than the plain vote": "" if is_plain else f"{100 * gap:+.1f} ({_percent((low, high), sign='+')})",
            "% of its tokens": round(100 * self.tokens / plain.tokens),
            "TFLOP/question": round(performance.gflops / 1e3, 3),
            "candidates": round(float(performance.branches.mean()), 1),
            "meets": "" if is_plain else meets(self.tokens / plain.tokens, gap, low),
        }


def meets(tokens: float, gap: float, low: float) -> str:
    """Return which of the two aims a vote meets.

    Args:
        tokens: as a share of the plain vote's.
        gap: its accuracy less that of the plain vote.
        low: the lower end of the 95 % interval of the gap.

    """
    if tokens <= SAME and low > 0:
        return "more accurate"
    if tokens <= FEWER and low >= -MARGIN:
        return "fewer tokens"
    return "fewer tokens, perhaps" if tokens <= FEWER and gap >= -MARGIN else ""


def report(path: Path, name: str) -> Table:
    """Print, save and return the table of a pool. Only the families that may be trained on count: the adapter knows no others."""
    settings, entries = read_pool(path)
    trained = set(FAMILIES) - {family.name for family in HELD_OUT}
    questions = [PooledQuestion(one, settings) for one in entries if one.task in trained]
    found = asyncio.run(_replay_all(settings, questions))
    title = (
        f"Votes of 16 by confidence, replayed on {len(questions)} questions, {ORDERS} orders of {settings.samples} samples; groups of "
        f"{GROUP_TOKENS} tokens. A right answer is more confident than a wrong one to the same question with probability "
        + ", ".join(f"{one:.2f} ({measure})" for measure, one in discrimination(questions).items())
    )
    table = Table(f"suite/{name}", title, f"benchmarks.suite pooled OUT/pool.jsonl --votes --name {name}")
    table.rows = [one.row(found[0]) for one in found]
    print(table.markdown())
    table.save()
    return table


async def _replay_all(settings: PoolSettings, questions: Sequence[PooledQuestion]) -> list[Replayed]:
    with closing(Equivalence()) as equivalence:
        context = StrategyContext(equivalence=equivalence, vocab_size=settings.flops.vocab_size)
        return [await _replay(label, params, questions, context) for label, params in PLANS.items()]


async def _replay(
    label: str, params: dict[str, Any], questions: Sequence[PooledQuestion], context: StrategyContext
) -> Replayed:
    outcomes: list[list[ReplayOutcome]] = []
    for one in questions:
        values = {"n": 16, "group_tokens": GROUP_TOKENS, "alternatives": one.settings.alternatives, **params}
        outcomes.append([await replay(one, "self_consistency", values, context, seed) for seed in range(ORDERS)])
    tokens = statistics.fmean(outcome.tokens for each in outcomes for outcome in each)
    return Replayed(performance_of(label, outcomes), tokens)


def discrimination(questions: Sequence[PooledQuestion]) -> dict[str, float]:
    """Return for each measure how probable it is that of a right and a wrong answer to one question the right one is more confident.

    Mean over the questions with both (Taubenfeld et al. 2025, arXiv 2502.06233: what a weighted vote needs).
    """
    found = {}
    for measure in MEASURES:
        areas = []
        for one in questions:
            groups = GroupConfidence(one.settings.alternatives, GROUP_TOKENS)
            confidences = [groups.of(one.candidate(sample, 0), measure) for sample in one.entry.samples]
            is_right = [sample.is_right for sample in one.entry.samples]
            if any(is_right) and not all(is_right):
                areas.append(auroc(confidences, is_right))
        found[str(measure)] = statistics.fmean(areas) if areas else 0.5
    return found


def _percent(interval: tuple[float, float], sign: str = "") -> str:
    low, high = (f"{100 * bound:{sign}.1f}" for bound in interval)
    return f"{low} to {high}"
