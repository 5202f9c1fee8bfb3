"""Step-level beam search guided by a verifier, and its diverse form, DVTS.

As in Snell et al. 2024 and Hugging Face's search-and-learn (FIELD A1): n beams; each round every survivor is continued by one step so that
there are n again, the verifier scores the steps, duplicates leave, and the n/m best survive, m being the expansion. Whole answers leave
the beam; when there are n of them, or none survives, they vote, weighted by the verifier's last word. `diverse` splits the beam into n/m
subtrees that are pruned each for itself, down to its best step; a subtree ends when its best step ends an answer.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from strategies.core.checks import check_choices
from strategies.core.results import Result
from strategies.core.strategy import Forecast
from strategies.core.values import StopReason, Task
from strategies.search.node import Node
from strategies.search.stepwise import StepParams, Stepwise, check_split, default_select
from strategies.search.tree import Tree
from strategies.verifiers import num_calls

Aggregation = Literal["last", "min", "product", "model"]


class BeamSearchParams(StepParams):
    """Parameters of `beam_search`."""

    n: Annotated[int, Field(ge=1, le=256, description="beams")] = 8
    expand: Annotated[int, Field(ge=1, le=256, description="continuations of each survivor: n/expand survive")] = 4
    aggregation: Annotated[
        Aggregation,
        Field(
            description="a path's value: of the verdicts on its steps, or the verdict on the whole of it as one step (`model`)"
        ),
    ] = "last"
    diverse: Annotated[bool, Field(description="n/expand independent subtrees (DVTS)")] = False


class BeamSearch(Stepwise[BeamSearchParams]):
    """See the module."""

    name = "beam_search"
    summary = "Grows n answers step by step and keeps those whose steps a verifier likes best."
    Params = BeamSearchParams

    def width(self, num_choices: int) -> int:
        """All beams."""
        return max(self.params.n, num_choices)

    def check(self, task: Task) -> None:
        """Refuse a beam that cannot be divided."""
        super().check(task)
        check_choices(self.name, task, self.params.n, "n")
        check_split(self.name, self.params.n, self.params.expand)

    def forecast(self, task: Task, answer_tokens: int) -> Forecast:  # noqa: ARG002 - as all strategies
        """N beams all the way."""
        num_rounds = self.num_steps(answer_tokens)
        branches = self.params.n * num_rounds
        return Forecast(branches, self.params.n * answer_tokens, num_rounds, num_calls(self.params.verifier, branches))

    async def search(self, tree: Tree) -> Result:
        """Grow all subtrees together; the plain beam is a single one."""
        num_kept = self.params.n // self.params.expand
        num_groups = num_kept if self.params.diverse else 1
        width, keep = self.params.n // num_groups, num_kept // num_groups
        groups = [[tree.root] for _ in range(num_groups)]
        while groups and not tree.is_over and tree.num_finals < self.params.n:
            wants = [_spread(survivors, width) for survivors in groups]
            grown = iter(await tree.grow([want for group in wants for want in group]))
            sets = [[child for _ in group for child in next(grown)] for group in wants]
            children = [child for group in sets for child in group]
            await tree.score(children, is_whole=self.params.aggregation == "model")
            for child in children:
                child.value = _aggregated(child, self.params.aggregation)
            tree.attach(children)
            groups = [survivors for group in sets if (survivors := self._survivors(tree, group, keep))]
            tree.tell([node for group in groups for node in group], children)
        return await tree.result(self.context, StopReason.COMPLETED, by=default_select(tree.task))

    def _survivors(self, tree: Tree, children: Sequence[Node], keep: int) -> list[Node]:
        distinct = tree.drop_duplicates(children)
        if self.params.diverse and distinct and not _best(distinct).is_open:
            return tree.keep((node for node in distinct if node.is_open), 0)
        return tree.keep((node for node in distinct if node.is_open), keep)


def _aggregated(node: Node, how: Aggregation) -> float:
    score = node.score or 0.0
    before = node.parent.value if node.parent is not None else None
    if before is None or how in ("last", "model"):
        return score
    return min(before, score) if how == "min" else before * score


def _spread(survivors: Sequence[Node], width: int) -> list[tuple[Node, int]]:
    """`width` continuations divided among the survivors, the first ones taking what is over."""
    each, over = divmod(width, len(survivors))
    return [(node, each + (rank < over)) for rank, node in enumerate(survivors) if each + (rank < over)]


def _best(nodes: Sequence[Node]) -> Node:
    return min(nodes, key=lambda node: node.rank)
