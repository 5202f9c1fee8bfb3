"""Step-level beam search guided by a verifier, and its diverse form, DVTS.

As in Snell et al. 2024 (arXiv 2408.03314) and Hugging Face's search-and-learn: there are n beams. Each round every survivor is continued
by one step, so that there are n again; the verifier scores the steps, duplicates are dropped, and the n/m best survive, m being `expand`.
Whole answers leave the beam. When there are n of them, or no beam survives, they vote, weighted by the score of their last step.

`diverse` (Beeching et al. 2024, search-and-learn) splits the beam into n/m subtrees. Each keeps only its own best step, and ends when that
step ends an answer.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from strategies.core.checks import check_choices
from strategies.core.parameters import NumAnswers
from strategies.core.results import Result
from strategies.core.strategy import NO_WIN, Forecast
from strategies.core.values import StopReason, Task
from strategies.search.node import Node
from strategies.search.stepwise import StepParams, Stepwise, check_split, default_select
from strategies.search.tree import Tree
from strategies.verifiers import num_calls

Aggregation = Literal["last", "min", "product", "model"]


class BeamSearchParams(StepParams):
    """Parameters of `beam_search`."""

    n: Annotated[NumAnswers, Field(description="beams")] = 8
    expand: Annotated[int, Field(ge=1, le=256, description="continuations of each survivor: n/expand survive")] = 4
    aggregation: Annotated[
        Aggregation,
        Field(description="a path's value: of the scores of its steps, or the score of the whole path as one step (`model`)"),
    ] = "last"
    diverse: Annotated[bool, Field(description="n/expand independent subtrees (DVTS)")] = False


class BeamSearch(Stepwise[BeamSearchParams]):
    """Grows n beams step by step, or n/expand independent subtrees."""

    name = "beam_search"
    summary = "Grows n answers step by step and keeps those whose steps a verifier likes best."
    comparison = NO_WIN
    Params = BeamSearchParams

    def width(self, num_choices: int) -> int:
        """Return n: all beams are continued at once."""
        return max(self.params.n, num_choices)

    def check(self, task: Task) -> None:
        """Refuse a beam that cannot be divided, and more choices than beams."""
        super().check(task)
        check_choices(self.name, task, self.params.n, "n")
        check_split(self.name, self.params.n, self.params.expand)

    def forecast(self, task: Task, answer_tokens: int) -> Forecast:  # noqa: ARG002 - the signature of all strategies
        """Return the cost of n beams from the first step to the last."""
        num_rounds = self.num_steps(answer_tokens)
        branches = self.params.n * num_rounds
        return Forecast(branches, self.params.n * answer_tokens, num_rounds, num_calls(self.params.verifier, branches))

    async def search(self, tree: Tree) -> Result:
        """Grow all subtrees together; the plain beam is a single subtree."""
        num_kept = self.params.n // self.params.expand
        num_subtrees = num_kept if self.params.diverse else 1
        width, keep = self.params.n // num_subtrees, num_kept // num_subtrees
        subtrees = [[tree.root] for _ in range(num_subtrees)]
        while subtrees and not tree.is_over and tree.num_finals < self.params.n:
            shares = [_spread(survivors, width) for survivors in subtrees]
            parents = [share for subtree in shares for share in subtree]
            grown = iter(await tree.extend(parents, is_whole=self.params.aggregation == "model"))
            children_of = [[child for _ in subtree for child in next(grown)] for subtree in shares]
            children = [child for subtree in children_of for child in subtree]
            for child in children:
                child.value = _aggregated(child, self.params.aggregation)
            tree.attach(children)
            subtrees = [survivors for subtree in children_of if (survivors := self._survivors(tree, subtree, keep))]
            tree.report_round([node for survivors in subtrees for node in survivors], children)
        return await tree.result(self.context, StopReason.COMPLETED, select=default_select(tree.task))

    def _survivors(self, tree: Tree, children: Sequence[Node], keep: int) -> list[Node]:
        distinct = tree.drop_duplicates(children)
        open_nodes = [node for node in distinct if node.is_open]
        has_ended = self.params.diverse and bool(distinct) and not min(distinct, key=lambda node: node.rank).is_open
        return tree.keep(open_nodes, 0 if has_ended else keep)


def _aggregated(node: Node, aggregation: Aggregation) -> float:
    """Return the value of a path, from the score of its last step and the value of the path before it."""
    score = node.score or 0.0
    before = node.parent.value if node.parent is not None else None
    if before is None or aggregation in ("last", "model"):
        return score
    return min(before, score) if aggregation == "min" else before * score


def _spread(survivors: Sequence[Node], width: int) -> list[tuple[Node, int]]:
    """Divide `width` continuations among the survivors; the first ones take the remainder."""
    each, remainder = divmod(width, len(survivors))
    shares = ((node, each + (rank < remainder)) for rank, node in enumerate(survivors))
    return [(node, num) for node, num in shares if num]
