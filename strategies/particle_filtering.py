"""Particle filtering (Puri et al. 2025, arXiv 2502.01618; its_hub): steps are resampled in proportion to the odds of their scores.

There are n particles. Each round every particle that has not ended grows by one step and gets the log-weight logit(p) of its score p. Then
n particles are drawn with replacement by the softmax of the log-weights. Particles that have ended keep their last weight and take part.
"""

import math
import random
from collections import Counter
from itertools import cycle, islice
from typing import Annotated

from pydantic import Field

from strategies.core.checks import check_choices
from strategies.core.parameters import NumAnswers, Select
from strategies.core.results import Result
from strategies.core.strategy import NO_WIN, Forecast
from strategies.core.values import StopReason, Task
from strategies.search.node import Node
from strategies.search.stepwise import StepParams, Stepwise
from strategies.search.tree import Tree
from strategies.verifiers import num_calls

EPSILON = 1e-7
"""Scores are kept this far from 0 and 1, as in its_hub, so that their odds are finite."""


class ParticleFilteringParams(StepParams):
    """Parameters of `particle_filtering`."""

    n: Annotated[NumAnswers, Field(description="particles")] = 8
    select: Annotated[Select, Field(description="`score`: the particle of the highest weight; `vote`: weighted vote")] = "score"


class ParticleFiltering(Stepwise[ParticleFilteringParams]):
    """Grows and resamples n particles until all have ended."""

    name = "particle_filtering"
    summary = "Grows n answers step by step and resamples them by what a verifier thinks of each step."
    comparison = NO_WIN
    Params = ParticleFilteringParams

    def width(self, num_choices: int) -> int:
        """Return n: all particles grow at once."""
        return max(self.params.n, num_choices)

    def check(self, task: Task) -> None:
        """Refuse more choices than particles."""
        super().check(task)
        check_choices(self.name, task, self.params.n, "n")

    def forecast(self, task: Task, answer_tokens: int) -> Forecast:  # noqa: ARG002 - the signature of all strategies
        """Return the cost of n particles from the first step to the last."""
        num_rounds = self.num_steps(answer_tokens)
        branches = self.params.n * num_rounds
        return Forecast(branches, self.params.n * answer_tokens, num_rounds, num_calls(self.params.verifier, branches))

    async def search(self, tree: Tree) -> Result:
        """Grow, weigh and resample, until all particles have ended."""
        generator = random.Random(tree.task.seed)  # noqa: S311 - sampling, not secrets
        particles = [tree.root] * self.params.n
        while any(node.is_open for node in particles) and not tree.is_over:
            copies = Counter(node for node in particles if node.is_open)
            grown = await tree.extend(list(copies.items()))
            children = [child for group in grown for child in group]
            tree.attach(children)
            particles = [node for node in particles if not node.is_open]
            for group, num in zip(grown, copies.values(), strict=True):
                particles += islice(cycle(tree.merge(group)), num)  # one step stands for all particles that have it
            # A particle that ended inside its thinking has no answer and gets none, so it takes part only where there is no other.
            particles = [node for node in particles if node.is_open or not node.path.is_thinking] or particles
            if not particles:
                break
            tree.report_round([node for node in particles if node.is_open], children)
            weights = [math.exp(_log_weight(node)) for node in particles]
            particles = generator.choices(particles, weights, k=self.params.n)
        return await tree.result(self.context, StopReason.COMPLETED, select=self.params.select)


def _log_weight(node: Node) -> float:
    """Return logit(p); its exp is p / (1 - p), the weight of the particle."""
    p = min(max(node.score or 0.0, EPSILON), 1 - EPSILON)
    return math.log(p / (1 - p))
