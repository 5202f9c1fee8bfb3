"""What Tree of Thoughts asks the model: for proposals, for values and for votes.

Each question is the user's next turn after the partial answer, so that everything before it is in the prefix cache. Values and votes are
read from the probabilities of the words that may answer: one forward pass gives the expectation of what the authors (Yao et al. 2023,
arXiv 2305.10601) estimate from several samples.
"""

import asyncio
import math
import re
import string
from collections.abc import Sequence
from dataclasses import replace

from strategies.core.ports import Model
from strategies.core.values import Candidate, Draw, Task
from strategies.search.node import Node
from strategies.search.tree import Tree

VALUES = {"sure": 1.0, "likely": 1 / 20, "impossible": 0.001 / 20}
"""The authors' values for the Game of 24 (sure 20, likely 1, impossible 0.001), scaled to [0, 1]."""

CHOICE_NAMES = string.ascii_uppercase
"""Names of the states in a vote, one token each."""

_BULLET = re.compile(r"^\s*(?:\d{1,2}[.):]|[-*•])\s+")


async def propose(tree: Tree, nodes: Sequence[Node], prompt: str, num: int, *, separator: str, max_tokens: int) -> list[Node]:
    """Return up to `num` next thoughts of each node, from one list that the model writes for the node; one thought a line.

    Args:
        tree: to which the thoughts will belong; they are not attached yet.
        nodes: the states to continue.
        prompt: asks for the list, with `{n}` for the number.
        num: thoughts of each node.
        separator: ends a thought.
        max_tokens: of one thought; a list may have `num` times as many.

    """
    indices = [tree.reserve(1) for _ in nodes]
    question = tree.task.follow_up(prompt.replace("{n}", str(num)))

    async def list_of(node: Node, index: int) -> list[Candidate]:
        prefix = (*tree.task.prefix_with(node.path), *question)
        async with tree.model.sample(Draw(prefix, 1, first_index=index, max_tokens=num * max_tokens)) as samples:
            return [candidate async for candidate in samples]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(list_of(node, index)) for node, index in zip(nodes, indices, strict=True)]
    proposed = []
    for node, task in zip(nodes, tasks, strict=True):
        for written in task.result():
            children = tree.graft(node, (thought + separator for thought in thoughts_of(written.text, num)))
            if children:  # the list was drawn once, so its cost is booked once
                children[0].path = replace(children[0].path, cost=written.cost)
            proposed += children
    return proposed


def thoughts_of(text: str, num: int) -> list[str]:
    """Return the first `num` distinct lines of a list, without bullets and numbers."""
    lines = (_BULLET.sub("", line).strip() for line in text.splitlines())
    return list(dict.fromkeys(line for line in lines if line))[:num]


async def value(task: Task, model: Model, nodes: Sequence[Node], prompt: str) -> list[float]:
    """Return how sure the model is that each node leads to the right answer, in [0, 1].

    It is the expectation of `VALUES` under the probabilities of their words, each in small letters and capitalised.
    """
    question = task.follow_up(prompt)
    spellings = [[task.encode(word)[0], task.encode(word.capitalize())[0]] for word in VALUES]
    options = sorted({token for spelling in spellings for token in spelling})

    async def value_of(node: Node) -> float:
        scored = await model.score_options((*task.prefix_with(node.path), *question), options)
        logprobs = dict(zip(options, scored, strict=True))
        probabilities = [sum(math.exp(logprobs[token]) for token in set(spelling)) for spelling in spellings]
        total = sum(probabilities)
        weighted = sum(p * worth for p, worth in zip(probabilities, VALUES.values(), strict=True))
        return weighted / total if total else 0.0

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(value_of(node)) for node in nodes]
    return [task.result() for task in tasks]


async def vote(task: Task, model: Model, nodes: Sequence[Node], prompt: str, num_votes: int) -> list[float]:
    """Return each node's share of the votes, in [0, 1].

    Each vote lists the nodes in another order, because small models prefer certain places of a list.

    Args:
        task: that the nodes answer.
        model: votes.
        nodes: at most as many as there are `CHOICE_NAMES`.
        prompt: asks for a letter, with `{choices}` for the list.
        num_votes: how many votes the mean is taken of.

    """
    names = [task.encode(name)[0] for name in CHOICE_NAMES[: len(nodes)]]

    async def shares_of(shift: int) -> list[float]:
        ordered = [*nodes[shift:], *nodes[:shift]]
        listed = "\n\n".join(
            f"Choice {name}:\n{task.judged(node.path).strip()}" for name, node in zip(CHOICE_NAMES, ordered, strict=False)
        )
        question = task.follow_up(prompt.replace("{choices}", listed))
        logprobs = await model.score_options((*task.prefix, *question), names)
        shares = [math.exp(logprob - max(logprobs)) for logprob in logprobs]
        start = len(nodes) - shift  # where the first node stands in the shifted list
        return [share / sum(shares) for share in (*shares[start:], *shares[:start])]

    shifts = [round(number * len(nodes) / num_votes) % len(nodes) for number in range(num_votes)] if nodes else []
    async with asyncio.TaskGroup() as group:
        votes = [group.create_task(shares_of(shift)) for shift in shifts]
    return [sum(shares) / len(votes) for shares in zip(*(vote.result() for vote in votes), strict=True)]
