"""What Tree of Thoughts asks the model itself: for proposals, for values, for votes.

Each question is put as the user's next turn after the partial answer, so that everything before it is in the prefix cache. Values and votes
are read from the probabilities of the words that may answer: one forward pass gives the expectation of what the authors estimate from
several samples (FIELD A6).
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
"""The authors' map {impossible 0.001, likely 1, sure 20}, scaled to [0, 1]."""

CHOICES = string.ascii_uppercase
"""Names of what is voted on: one token each."""

_BULLET = re.compile(r"^\s*(?:\d{1,2}[.):]|[-*•])\s+")


async def propose(tree: Tree, nodes: Sequence[Node], prompt: str, num: int, *, separator: str, max_tokens: int) -> list[Node]:
    """Up to `num` next thoughts of each node, from one list that the model writes for it; one thought a line."""
    firsts = [tree.reserve(1) for _ in nodes]
    ask = tree.task.follow_up(prompt.replace("{n}", str(num)))

    async def listed(node: Node, index: int) -> list[Candidate]:
        draw = Draw((*tree.task.prefix_with(node.path), *ask), 1, first_index=index, max_tokens=num * max_tokens)
        async with tree.model.sample(draw) as samples:
            return [candidate async for candidate in samples]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(listed(node, index)) for node, index in zip(nodes, firsts, strict=True)]
    grown = []
    for node, task in zip(nodes, tasks, strict=True):
        for one in task.result():
            children = tree.graft(node, (thought + separator for thought in thoughts_of(one.text, num)))
            if children:  # the list was paid for once
                children[0].path = replace(children[0].path, cost=one.cost)
            grown += children
    return grown


def thoughts_of(text: str, num: int) -> list[str]:
    """The first `num` distinct lines of a list, without bullets and numbers."""
    lines = (_BULLET.sub("", line).strip() for line in text.splitlines())
    return list(dict.fromkeys(line for line in lines if line))[:num]


async def value(task: Task, model: Model, nodes: Sequence[Node], prompt: str) -> list[float]:
    """How sure the model is that each leads to the answer, in [0, 1]."""
    ask = task.follow_up(prompt)
    spellings = [[task.encode(word)[0], task.encode(word.capitalize())[0]] for word in VALUES]
    options = sorted({token for spelling in spellings for token in spelling})

    async def one(node: Node) -> float:
        logprobs = dict(zip(options, await model.score_options((*task.prefix_with(node.path), *ask), options), strict=True))
        words = [sum(math.exp(logprobs[token]) for token in set(spelling)) for spelling in spellings]
        total = sum(words)
        return sum(word * worth for word, worth in zip(words, VALUES.values(), strict=True)) / total if total else 0.0

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(node)) for node in nodes]
    return [task.result() for task in tasks]


async def vote(task: Task, model: Model, nodes: Sequence[Node], prompt: str, num_votes: int) -> list[float]:
    """The share of the votes that each gets, in [0, 1]. Each vote lists them in another order, since small models like certain places."""
    names = [task.encode(name)[0] for name in CHOICES[: len(nodes)]]

    async def one(shift: int) -> list[float]:
        ordered = [*nodes[shift:], *nodes[:shift]]
        listed = "\n\n".join(f"Choice {name}:\n{node.path.text.strip()}" for name, node in zip(CHOICES, ordered, strict=False))
        logprobs = await model.score_options((*task.prefix, *task.follow_up(prompt.replace("{choices}", listed))), names)
        shares = [math.exp(logprob - max(logprobs)) for logprob in logprobs]
        back = len(nodes) - shift
        return [share / sum(shares) for share in (*shares[back:], *shares[:back])]

    shifts = [round(number * len(nodes) / num_votes) % len(nodes) for number in range(num_votes)] if nodes else []
    async with asyncio.TaskGroup() as group:
        votes = [group.create_task(one(shift)) for shift in shifts]
    return [sum(shares) / len(votes) for shares in zip(*(vote.result() for vote in votes), strict=True)]
