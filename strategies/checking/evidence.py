"""What the answers so far tell of the leading one: moment two of a question's difficulty."""

import math

from strategies.checking.chain_vote import Vote
from strategies.checking.chains import Writer
from strategies.core.stopping_rule import Evidence
from strategies.core.values import Candidate
from strategies.voting.count import mean_logprob

WINDOW = 16
"""Tokens of a window whose mean log-probability is looked at: where a chain went astray, as DeepConf's groups do (Fu et al. 2025)."""

LOWEST = -100.0
"""Log-probabilities are no less than this, so that a forbidden token does not make a mean infinite."""


def evidence(writer: Writer, vote: Vote) -> Evidence:
    """What there is to see, of chains at least one of which was begun."""
    chains, first = vote.chains, vote.chains[0]
    leader = vote.leader
    assert leader is not None
    set_aside = [chain for chain in chains if not chain.is_sound]
    unread = [one for one in chains if one not in set_aside and vote.ballot.answers[one.answer.index] is None]
    leading = {member.index for member in vote.ranked[0].members} if vote.ranked else set()
    return Evidence(
        answers=len(chains),
        attempts=writer.num_attempts,
        leader=leader.index,
        votes=tuple(len(group.members) for group in vote.ranked),
        num_set_aside=len(set_aside),
        num_unread=len(unread),
        first_is_true=first.is_true,
        first_leads=first.answer.index in leading,
        logprob=max(mean_logprob(leader), LOWEST),
        lowest=lowest_window(leader),
        tokens=sum(node.tokens for chain in chains for node in chain.nodes),
        length=len(leader.token_ids),
    )


def lowest_window(candidate: Candidate, size: int = WINDOW) -> float:
    """The least mean log-probability of `size` tokens in a row; of all of them where there are fewer, `LOWEST` where there are none."""
    values = [max(entry.logprob, LOWEST) for entry in candidate.logprobs if not entry.is_given]
    if not values:
        return LOWEST
    size = min(size, len(values))
    total = lowest = math.fsum(values[:size])
    for leaving, coming in zip(values, values[size:], strict=False):
        total += coming - leaving
        lowest = min(lowest, total)
    return lowest / size
