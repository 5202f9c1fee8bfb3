"""The features that a stopping rule reads after each wave of chains."""

import math

from strategies.checking.chain_vote import ChainVote
from strategies.checking.chains import Writer
from strategies.core.stopping_rule import Evidence
from strategies.core.values import Candidate
from strategies.voting.count import mean_logprob

WINDOW = 16
"""Tokens of a window. DeepConf (Fu et al. 2025, arXiv 2508.15260) takes 2048 for long reasoning; answers here have some 100 tokens."""

MARKS = ("####", "boxed{")
"""What shows that an answer ends as it was asked to."""

LOWEST = -100.0
"""Log-probabilities are cut to this, so that a token of probability 0 does not make a mean infinite."""


def evidence(writer: Writer, vote: ChainVote) -> Evidence:
    """Return the evidence after a wave. Raises `ValueError` if no chain has an attempt."""
    chains, leader = vote.chains, vote.leader
    if leader is None:
        raise ValueError("there is no evidence before the first attempt")
    first = chains[0]
    filtered = [chain for chain in chains if not chain.is_sound]
    unread = [one for one in chains if one not in filtered and vote.votes.answers[one.answer.index] is None]
    leading = {member.index for member in vote.ranked[0].members} if vote.ranked else set()
    return Evidence(
        answers=len(chains),
        attempts=writer.num_attempts,
        leader=leader.index,
        votes=tuple(len(group.members) for group in vote.ranked),
        num_filtered=len(filtered),
        num_unread=len(unread),
        first_is_true=first.is_true,
        first_leads=first.answer.index in leading,
        logprob=max(mean_logprob(leader), LOWEST),
        lowest=lowest_window(leader),
        tokens=sum(node.tokens for chain in chains for node in chain.nodes),
        length=len(leader.token_ids),
        least=min((entry.logprob for entry in leader.logprobs if not entry.is_inserted), default=LOWEST),
        answer_length=len(vote.ranked[0].answer) if vote.ranked else 0,
        distinct_lines=_distinct_lines(leader.text),
        is_marked=any(mark in leader.text for mark in MARKS),
        is_complete=leader.is_complete,
        first_logprobs=first.first_logprobs,
    )


def _distinct_lines(text: str) -> float:
    lines = [line for line in text.splitlines() if line.strip()]
    return len(set(lines)) / max(len(lines), 1)


def lowest_window(candidate: Candidate, size: int = WINDOW) -> float:
    """Return the lowest mean log-probability of `size` tokens in a row, as DeepConf's lowest group confidence.

    Of fewer tokens the mean of all is returned, of none `LOWEST`.
    """
    values = [max(entry.logprob, LOWEST) for entry in candidate.logprobs if not entry.is_inserted]
    if not values:
        return LOWEST
    size = min(size, len(values))
    total = lowest = math.fsum(values[:size])
    for leaving, entering in zip(values, values[size:], strict=False):
        total += entering - leaving
        lowest = min(lowest, total)
    return lowest / size
