"""Monte Carlo tree search over the steps of an answer.

An iteration selects a node by UCT or PUCT, draws `expand` next steps of it, values each, and backs the values up to the root, one visit for
each step. A node's value is the mean of what was backed up through it, as in rStar (Qi et al. 2024, arXiv 2408.06195) and LATS (Zhou et al.
2023, arXiv 2310.04406). `workers` iterations are under way at once; virtual loss keeps them apart. They are backed up in the order in which
they were selected, whichever is ready first. Selection k thus sees exactly the results of the selections up to k - workers: the tree
depends on the samples alone, and the engine never waits.

With `selection` `budget` it is BG-MCTS, and ends with answers: see `strategies.search.budget_guided`.
"""

import asyncio
from collections import deque

from strategies.core.checks import check_choices, check_comparable
from strategies.core.errors import UnsupportedTask
from strategies.core.results import Result
from strategies.core.strategy import NO_WIN, Forecast
from strategies.core.values import StopReason, Task
from strategies.search.budget_guided import BudgetGuidedRun
from strategies.search.mcts_run import MAX_NODES, MctsParams, MctsRun
from strategies.search.node import Node
from strategies.search.stepwise import Stepwise
from strategies.search.tree import Tree
from strategies.verifiers import num_calls


class Mcts(Stepwise[MctsParams]):
    """Grows one tree by selecting, expanding and backing up, and returns an answer of it."""

    name = "mcts"
    summary = "Monte Carlo tree search over steps, several workers at once."
    comparison = NO_WIN
    Params = MctsParams

    @property
    def _num_rollouts(self) -> int:
        return 0 if self.params.value == "verifier" else self.params.rollouts

    def width(self, num_choices: int) -> int:
        """Return the branches of all workers, while they draw steps or complete them."""
        return max(self.params.workers * self.params.expand * max(self._num_rollouts, 1), num_choices)

    def check(self, task: Task) -> None:
        """Refuse agreement among answers that cannot be compared, more choices than answers, and trees that are too large."""
        super().check(task)
        if (num := self.params.iterations * self.params.expand * (1 + self._num_rollouts)) > MAX_NODES:
            raise UnsupportedTask(f"a tree of {num} nodes is too large: {MAX_NODES} are the most", parameter="iterations")
        check_choices(self.name, task, self.params.iterations * self.params.expand, "iterations")
        if self.params.value == "agreement":
            check_comparable("agreement", task, parameter="value")

    def forecast(self, task: Task, answer_tokens: int) -> Forecast:  # noqa: ARG002 - the signature of all strategies
        """Return the cost of all iterations with full steps; a rollout completes half an answer on average."""
        steps = self.params.iterations * self.params.expand
        if self.params.tokens is not None and self.params.selection == "budget":
            steps = -(-self.params.tokens // min(self.params.step_tokens, answer_tokens))
        tokens = steps * min(self.params.step_tokens, answer_tokens) + steps * self._num_rollouts * answer_tokens // 2
        num_rounds = -(-self.params.iterations // self.params.workers) * (2 if self._num_rollouts else 1)
        num_scored = {"verifier": steps, "rollout": steps * self._num_rollouts, "agreement": 0}[self.params.value]
        return Forecast(steps * (1 + self._num_rollouts), tokens, num_rounds, num_calls(self.params.verifier, num_scored))

    async def search(self, tree: Tree) -> Result:
        """Keep the workers busy until the tree is grown, the budget is spent, or the outcome is decided."""
        is_guided = self.params.selection == "budget"
        run = (BudgetGuidedRun if is_guided else MctsRun)(self.params, tree, self.context)
        under_way: deque[tuple[Node, asyncio.Task[tuple[list[Node], list[Node]]]]] = deque()
        num_left = run.num_iterations
        is_settled = False
        async with asyncio.TaskGroup() as group:
            while not is_settled:
                while num_left and len(under_way) < self.params.workers and not tree.is_over and (node := run.select()):
                    first = tree.reserve(self.params.expand * (1 + self._num_rollouts))
                    num = run.num_children(node)
                    under_way.append((node, group.create_task(run.expand(node, num, first, self._num_rollouts))))
                    num_left -= 1
                if not under_way:
                    break
                node, expansion = under_way.popleft()
                await run.back_up(node, *await expansion)
                is_settled = tree.proven is not None or run.is_decided(num_left + len(under_way))
            for _, expansion in under_way:
                expansion.cancel()
        if not is_settled:
            await run.finish()
        return await run.result(StopReason.SETTLED if is_settled else StopReason.COMPLETED)
