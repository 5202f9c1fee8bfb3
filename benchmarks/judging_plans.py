"""The plans of `benchmarks.judging`: what may follow where the drafts disagree, replayed on answers and judgements that are there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from app.engine.architecture import Architecture
from app.lab.calibration.performance import PlanPerformance
from benchmarks.judgements import ANSWERS, DERIVATIONS, POINTWISE, Disagreement, DraftAnswer, Judgement

Judgements = Mapping[tuple[str, str], Judgement]

Voters = Callable[[Disagreement], Sequence[DraftAnswer]]
"""Whose votes count beside the judge's word."""

STOP, MORE, OWN, PERFECT = (
    "the drafts' majority", "the majority of more drafts", "the judge's own answer", "a judge who is always right",
)  # fmt: skip


def nobody(_question: Disagreement) -> Sequence[DraftAnswer]:
    """No votes."""
    return ()


def few(question: Disagreement) -> Sequence[DraftAnswer]:
    """Those of the drafts that the judge is asked of."""
    return question.drafts


def many(question: Disagreement) -> Sequence[DraftAnswer]:
    """Those of more drafts besides."""
    return question.more_drafts


@dataclass(frozen=True)
class JudgedPlan:
    """A way to ask a judge, and to pick.

    Attributes:
        num_asks: of the prompts, None for all.

    """

    label: str
    way: str
    num_asks: int | None = None
    voters: Voters = nobody

    def judgement(self, question: Disagreement, judgements: Judgements) -> Judgement:
        """Return what the judge said."""
        whole = judgements[question.small.key, self.way]
        return whole.model_copy(update={"asks": whole.asks[: self.num_asks]})

    def probabilities(self, question: Disagreement, judgements: Judgements) -> NDArray[np.float64]:
        """Return the (drafts,) probability of each. The votes of an answer are its prior odds; without votes all are alike."""
        votes = {draft.answer: draft.votes for draft in self.voters(question)}
        prior = np.log([votes.get(one.answer, 1) for one in question.drafts])
        scores = prior + _scores(self.judgement(question, judgements))
        return np.array(np.exp(scores - np.logaddexp.reduce(scores)))

    def is_right(self, question: Disagreement, judgements: Judgements) -> bool:
        """Return whether the draft is right that is most probable. None is where none is right."""
        return question.has_right and question.drafts[int(self.probabilities(question, judgements).argmax())].is_right

    def flops(self, question: Disagreement, judgements: Judgements, judge: Architecture) -> int:
        """Return what the judge computes, and what more drafts cost where these vote."""
        return self.judgement(question, judgements).flops(judge) + (question.more_flops if self.voters is many else 0)


CHEAP = JudgedPlan("judged by final answers, one order, with votes", ANSWERS, 1, few)

OF_ANSWERS = (
    JudgedPlan("judged by final answers, one order", ANSWERS, 1),
    CHEAP,
    JudgedPlan("judged by final answers, both orders", ANSWERS),
    JudgedPlan("judged by final answers, both orders, with votes", ANSWERS, None, few),
    JudgedPlan("judged by final answers, both orders, with votes of more drafts", ANSWERS, None, many),
)

OF_TEXTS = (
    JudgedPlan("judged by whole drafts, one order, with votes", DERIVATIONS, 1, few),
    JudgedPlan("judged by whole drafts, both orders", DERIVATIONS),
    JudgedPlan("judged by whole drafts, both orders, with votes", DERIVATIONS, None, few),
    JudgedPlan("judged draft by draft", POINTWISE),
    JudgedPlan("judged draft by draft, with votes", POINTWISE, None, few),
)


def _scores(judgement: Judgement) -> NDArray[np.float64]:
    """Return the (drafts,) log-probabilities of letters, as a mean of the orders, or log-odds of the drafts."""
    if judgement.way == POINTWISE:
        return np.array([ask.scores[0] for ask in judgement.asks])
    return np.mean([np.array(ask.scores) - np.logaddexp.reduce(ask.scores) for ask in judgement.asks], axis=0)


def performance(
    label: str,
    questions: Sequence[Disagreement],
    right: Callable[[Disagreement], bool],
    flops: Callable[[Disagreement], int],
) -> PlanPerformance:
    """Return the performance of a plan. All pay for the drafts, since these are there when somebody sees that they disagree."""
    accuracy = np.array([float(right(one)) for one in questions])
    spent = np.array([float(one.draft_flops + flops(one)) for one in questions])
    return PlanPerformance(label, accuracy, spent, np.ones(len(questions)))


def performances(
    questions: Sequence[Disagreement], judged: Sequence[JudgedPlan], judgements: Judgements, judge: Architecture
) -> dict[str, PlanPerformance]:
    """Return by their label the plans without a judge, the judged ones, and what the best judge could do."""
    return {
        one.label: one
        for one in (
            performance("the greedy draft", questions, lambda one: one.small.greedy.is_right, _nothing),
            performance(STOP, questions, lambda one: majority(one.drafts).is_right, _nothing),
            performance(MORE, questions, lambda one: majority(one.more_drafts).is_right, lambda one: one.more_flops),
            *(
                performance(
                    plan.label,
                    questions,
                    partial(plan.is_right, judgements=judgements),
                    partial(plan.flops, judgements=judgements, judge=judge),
                )
                for plan in judged
            ),
            performance(
                PERFECT, questions, lambda one: one.has_right, partial(CHEAP.flops, judgements=judgements, judge=judge)
            ),
            performance(OWN, questions, lambda one: one.large.greedy.is_right, lambda one: one.own_flops),
        )
    }


def _nothing(_question: Disagreement) -> int:
    return 0


def majority(drafts: Sequence[DraftAnswer]) -> DraftAnswer:
    """Return the answer of most drafts, the first one of several."""
    return max(drafts, key=lambda draft: draft.votes)


def chosen(plans: Sequence[PlanPerformance], families: NDArray[np.str_], price: float, prior: float) -> PlanPerformance:
    """Return the performance of the plan of most value for each question, as the other questions of its family have it.

    Args:
        plans: to choose from. The branches of the result are the places of those that are chosen.
        families: (questions,).
        price: of a FLOP.
        prior: the questions of all families that the mean of a family begins with.

    """
    values = np.stack([one.accuracy - price * one.flops for one in plans])
    sums = np.stack([values[:, families == family].sum(axis=1) for family in families], axis=1) - values
    numbers = np.array([np.sum(families == family) for family in families]) - 1
    others = (values.sum(axis=1, keepdims=True) - values) / max(values.shape[1] - 1, 1)
    places = ((sums + prior * others) / (numbers + prior)).argmax(axis=0)
    columns = np.arange(len(families))
    accuracy, flops = (np.stack([getattr(one, name) for one in plans])[places, columns] for name in ("accuracy", "flops"))
    return PlanPerformance("chosen", accuracy, flops, places.astype(float))
