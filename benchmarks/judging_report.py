"""The tables of `benchmarks.judging`: which draft a judge picks, when it is unsure, and what it adds to the choice of who answers."""

import random
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from app.engine.architecture import Architecture
from app.lab.calibration.performance import PlanPerformance, difference, expected_auroc
from benchmarks.judgements import ANSWERS, SEED, TIMED, TIMED_TOKENS, WAYS, Disagreement
from benchmarks.judging_plans import (
    CHEAP,
    MORE,
    OF_ANSWERS,
    OF_TEXTS,
    OWN,
    PERFECT,
    STOP,
    Judgements,
    chosen,
    majority,
    performance,
    performances,
)
from benchmarks.report import Table
from benchmarks.suite.families import TRAINING

PRICES = (2.0, 1.0, 0.5, 0.35, 0.25, 0.18, 0.13, 0.1, 0.07, 0.05, 0.03)
"""The accuracy that the FLOPs of one answer of the large model must gain."""

PRIOR = 2.0
"""The questions of all families that the mean of a family begins with."""

SURE = (0.5, 0.6, 0.7, 0.8, 0.9)
"""How sure the small model or the judge must be, so that the large model does not answer."""

Row = dict[str, str]


def report(questions: Sequence[Disagreement], judgements: Judgements, judge: Architecture) -> None:
    """Write the tables."""
    known = [one for one in questions if _has(one, judgements, ANSWERS, is_asked=one.has_right)]
    both = [one for one in known if one.has_right and all(_has(one, judgements, way, is_asked=True) for way in WAYS)]
    tables = {
        "ways": (f"{len(both)} of them where a draft is right", _way_rows(both, judgements, judge)),
        "plans": (f"all {len(known)}", _plan_rows(known, judgements, judge)),
        "doubts": _doubts(known, judgements, judge),
        "seconds": ("the seconds of some", _second_rows(known, judgements)),
        "choice": ("who answers, by family", _choice_rows(known, judgements, judge)),
    }
    for name, (title, rows) in tables.items():
        if not rows:
            continue
        table = Table(f"cascade/judging-{name}", f"Where drafts disagree: {title}", "benchmarks.judging report", rows)
        table.save()
        print(table.markdown(), "\n")


def _has(question: Disagreement, judgements: Judgements, way: str, *, is_asked: bool) -> bool:
    found = judgements.get((question.small.key, way))
    return found is not None and (found.was_asked or not is_asked)


def _way_rows(questions: Sequence[Disagreement], judgements: Judgements, judge: Architecture) -> list[Row]:
    plans = performances(questions, (*OF_ANSWERS, *OF_TEXTS), judgements, judge)
    drafts = np.array([float(one.draft_flops) for one in questions])
    return [
        {
            "plan": one.label,
            "right": f"{one.mean:.1%}",
            f"above {MORE}": _apart(one, plans[MORE]),
            f"FLOPs after the drafts, of {OWN}": _share(one, plans[OWN], drafts),
        }
        for one in plans.values()
    ]


def _plan_rows(questions: Sequence[Disagreement], judgements: Judgements, judge: Architecture) -> list[Row]:
    plans = performances(questions, OF_ANSWERS, judgements, judge)
    drafts = np.array([float(one.draft_flops) for one in questions])
    taught = np.isin([one.small.task for one in questions], [one.name for one in TRAINING])
    parts = {f"{taught.sum()} of families that the adapter was taught": taught, f"{(~taught).sum()} others": ~taught}
    return [
        {
            "plan": one.label,
            "all": _cell(one),
            **{name: _cell(one.of(mask)) if mask.any() else "" for name, mask in parts.items()},
            f"FLOPs after the drafts, of {OWN}": _share(one, plans[OWN], drafts),
            f"above {OWN}": _apart(one, plans[OWN]),
            f"above {MORE}": _apart(one, plans[MORE]),
        }
        for one in plans.values()
    ]


def _doubts(questions: Sequence[Disagreement], judgements: Judgements, judge: Architecture) -> tuple[str, list[Row]]:
    """Return the title and the rows of plans in which the large model answers where nobody is sure enough of a draft."""
    some = _as_many_of_either_kind(questions, judgements)

    def judged(one: Disagreement) -> float:
        return float(CHEAP.probabilities(one, judgements).max())

    def agreed(one: Disagreement) -> float:
        return majority(one.more_drafts).votes / sum(draft.votes for draft in one.more_drafts)

    signals: dict[
        str, tuple[Callable[[Disagreement], float], Callable[[Disagreement], bool], Callable[[Disagreement], int]]
    ] = {
        "votes of more drafts": (agreed, lambda one: majority(one.more_drafts).is_right, lambda one: one.more_flops),
        "the judge, with votes": (
            judged,
            lambda one: CHEAP.is_right(one, judgements),
            lambda one: CHEAP.flops(one, judgements, judge),
        ),
    }
    rows = []
    for name, (sure, right, flops) in signals.items():
        values, is_right = np.array([sure(one) for one in some]), np.array([float(right(one)) for one in some])
        row = {"who says which draft is right": name, "AUROC of how sure it is": f"{expected_auroc(values, is_right):.2f}"}
        for least in SURE:
            plan = performance(
                name,
                some,
                lambda one, least=least, sure=sure, right=right: (
                    right(one) if sure(one) >= least else one.large.greedy.is_right
                ),
                lambda one, least=least, sure=sure, flops=flops: flops(one) + (sure(one) < least) * one.own_flops,
            )
            row[f"sure by {least}"] = _cell(plan)
        rows.append(row)
    return f"{len(some)} of them, the large model answers where nobody is sure", rows


def _as_many_of_either_kind(questions: Sequence[Disagreement], judgements: Judgements) -> list[Disagreement]:
    """Return the questions of which the judge was asked, those with a right draft in the share that they have among all."""
    asked = [one for one in questions if _has(one, judgements, ANSWERS, is_asked=True)]
    with_right, others = ([one for one in asked if one.has_right is wanted] for wanted in (True, False))
    num_others = sum(not one.has_right for one in questions)
    num = round(len(with_right) * len(others) / num_others) if num_others else len(with_right)
    return [*random.Random(SEED).sample(with_right, num), *others]


def _choice_rows(questions: Sequence[Disagreement], judgements: Judgements, judge: Architecture) -> list[Row]:
    """Return, at each price, what a choice by family gains and costs. It knows how each plan did on other questions of the family."""
    plans = performances(questions, OF_ANSWERS, judgements, judge)
    families = np.array([one.small.task for one in questions])
    unit = float(np.mean([one.own_flops for one in questions]))
    without = [plans[name] for name in (STOP, MORE, OWN)]
    judged, perfect = plans[CHEAP.label], plans[PERFECT]
    rows = []
    for price in PRICES:
        before, after, best = (
            chosen(some, families, price / unit, PRIOR) for some in (without, [*without, judged], [*without, perfect])
        )
        rows.append(
            {
                f"accuracy for the FLOPs of {OWN}": f"{price:g}",
                "without a judge": _cell(before),
                CHEAP.label: _cell(after),
                "accuracy gained": _apart(after, before),
                "judged": f"{np.mean(after.branches >= len(without)):.0%}",
                PERFECT: _cell(best),
            }
        )
    return rows


def _second_rows(questions: Sequence[Disagreement], judgements: Judgements) -> list[Row]:
    """Return the seconds of judging and of answering, by the time that a token takes to be read or written."""
    judged, own = [], []
    for one in questions:
        timed, asked = (judgements.get((one.small.key, way)) for way in (TIMED, ANSWERS))
        if timed is None or asked is None or not asked.was_asked:
            continue
        first, more = timed.asks
        reading = first.seconds * (1 - more.cached / more.tokens)
        length = len(one.large.greedy.token_ids)
        writing = max(more.seconds - reading, 0.0) / max(min(TIMED_TOKENS, length) - 1, 1)
        judged.append([asked.asks[0].seconds, sum(ask.seconds for ask in asked.asks)])
        own.append(first.seconds + writing * (length - 1))
    if not own:
        return []
    orders = np.array(judged).sum(axis=0)
    return [
        {
            "questions": str(len(own)),
            OWN: f"{np.mean(own):.1f} s",
            "judged by final answers, one order": f"{orders[0] / len(own):.1f} s",
            "both orders": f"{orders[1] / len(own):.1f} s",
            "share, one order": f"{orders[0] / sum(own):.2f}",
            "share, both orders": f"{orders[1] / sum(own):.2f}",
        }
    ]


def _share(one: PlanPerformance, own: PlanPerformance, drafts: NDArray[np.float64]) -> str:
    return f"{(one.flops - drafts).sum() / (own.flops - drafts).sum():.2f}"


def _cell(one: PlanPerformance) -> str:
    return f"{one.mean:.1%} for {one.gflops:.0f}"


def _apart(one: PlanPerformance, other: PlanPerformance) -> str:
    if one is other or len(one.accuracy) < 2:
        return ""
    mean, low, high = difference(one, other)
    return f"{mean:+.1%} ({low:+.1%} to {high:+.1%})"
