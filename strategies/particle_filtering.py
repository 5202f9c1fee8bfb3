"""Particle filtering (Puri et al. 2025, its_hub; FIELD A8): steps are resampled in proportion to what the verifier thinks of them.

n particles; each round every particle that is not at its end grows by one step, gets the log-weight logit(p) of the verdict p on it, and n
particles are drawn anew with replacement by softmax of the log-weights; those at their end keep their last weight and take part.
"""

import math
import random
from collections import Counter
from typing import Annotated

from pydantic import Field

from strategies.core.checks import check_choices
from strategies.core.parameters import Select
from strategies.core.results import Result
from strategies.core.strategy import Forecast
from strategies.core.values import StopReason, Task
from strategies.search.node import Node
from strategies.search.stepwise import StepParams, Stepwise
from strategies.search.tree import Tree
from strategies.verifiers import num_calls

EPSILON = 1e-7
"""Verdicts are kept this far from 0 and 1, as its_hub does."""


class ParticleFilteringParams(StepParams):
    """Parameters of `particle_filtering`."""

    n: Annotated[int, Field(ge=1, le=256, description="particles")] = 8
    select: Annotated[Select, Field(description="`score`: the particle of the highest weight; `vote`: weighted vote")] = "score"


class ParticleFiltering(Stepwise[ParticleFilteringParams]):
    """See the module."""

    name = "particle_filtering"
    summary = "Grows n answers step by step and resamples them by what a verifier thinks of each step."
    Params = ParticleFilteringParams

    def width(self, num_choices: int) -> int:
        """All particles."""
        return max(self.params.n, num_choices)

    def check(self, task: Task) -> None:
        """Refuse more choices than particles."""
        super().check(task)
        check_choices(self.name, task, self.params.n, "n")

    def forecast(self, task: Task, answer_tokens: int) -> Forecast:  # noqa: ARG002 - as all strategies
        """N particles all the way."""
        num_rounds = self.num_steps(answer_tokens)
        branches = self.params.n * num_rounds
        return Forecast(branches, self.params.n * answer_tokens, num_rounds, num_calls(self.params.verifier, branches))

    async def search(self, tree: Tree) -> Result:
        """Grow, weigh, resample, until all particles are at their ends."""
        chance = random.Random(tree.task.seed)  # noqa: S311 - sampling, not secrets
        particles = [tree.root] * self.params.n
        while any(node.is_open for node in particles) and not tree.is_over:
            wants = Counter(node for node in particles if node.is_open)
            grown = await tree.grow(list(wants.items()))
            children = [child for group in grown for child in group]
            await tree.score(children)
            tree.attach(children)
            particles = [node for node in particles if not node.is_open] + children
            if not particles:
                break
            tree.tell([node for node in particles if node.is_open], children)
            particles = chance.choices(particles, [math.exp(_log_weight(node)) for node in particles], k=self.params.n)
        return await tree.result(self.context, StopReason.COMPLETED, by=self.params.select)


def _log_weight(node: Node) -> float:
    """logit(p); exp of it is p / (1 - p), which is what softmax weighs by."""
    p = min(max(node.score or 0.0, EPSILON), 1 - EPSILON)
    return math.log(p / (1 - p))
