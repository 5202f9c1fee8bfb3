"""Tree of Thoughts (Yao et al. 2023, arXiv 2305.10601): the model thinks of next thoughts and evaluates them itself.

Breadth first, the `breadth` best states of each round are kept. Depth first, the best thought is followed first, and states whose value is
below `prune` are given up. Thoughts are continuations of the prompt, token for token, so that the prefix of a state is in the cache.
"""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from strategies.core.checks import check_choices
from strategies.core.errors import UnsupportedTask
from strategies.core.results import NodeState, Result
from strategies.core.strategy import NO_WIN, Forecast
from strategies.core.values import StopReason, Task
from strategies.search import thoughts
from strategies.search.node import Node
from strategies.search.stepwise import StepParams, Stepwise
from strategies.search.tree import Tree
from strategies.verifiers import StepVerifier, num_calls

Prompt = Annotated[str, Field(min_length=1, max_length=4000)]


class TreeOfThoughtsParams(StepParams):
    """Parameters of `tree_of_thoughts`."""

    search: Annotated[Literal["bfs", "dfs"], Field(description="breadth first, or depth first with pruning")] = "bfs"
    generate: Annotated[
        Literal["sample", "propose"], Field(description="thoughts are sampled each for itself, or listed by one proposal")
    ] = "sample"
    evaluate: Annotated[
        Literal["value", "vote", "verifier"],
        Field(description="states are valued by the model one by one, by its vote among them, or by `verifier`"),
    ] = "value"
    verifier: Annotated[
        StepVerifier | None,
        Field(description="scores whole answers, and with `evaluate` = `verifier` states too (`likelihood` by default)"),
    ] = None  # type: ignore[assignment] # may be left out here
    samples: Annotated[int, Field(ge=1, le=64, description="thoughts of each state")] = 4
    breadth: Annotated[
        int, Field(ge=1, le=64, description="states that are kept; depth first: answers after which it ends")
    ] = 2
    depth: Annotated[int, Field(ge=1, le=64, description="the most thoughts of an answer; the last one runs to its end")] = 8
    expansions: Annotated[int, Field(ge=1, le=1024, description="depth first: states that are expanded at most")] = 32
    prune: Annotated[float, Field(ge=0, le=1, description="depth first: value below which a state is given up")] = 0.02
    votes: Annotated[int, Field(ge=1, le=16, description="votes, each with the choices in another order")] = 2
    propose_prompt: Annotated[Prompt, Field(description="asks for `{n}` next steps")] = (
        "List {n} different possible next steps, one per line, nothing else."
    )
    value_prompt: Annotated[Prompt, Field(description="asks for `sure`, `likely` or `impossible`")] = (
        "Can what you have so far lead to the right answer? Reply with one word: sure, likely or impossible."
    )
    vote_prompt: Annotated[Prompt, Field(description="asks for the letter of one of `{choices}`")] = (
        "Here are several attempts.\n\n{choices}\n\nWhich choice is best? Reply with its letter only."
    )


class TreeOfThoughts(Stepwise[TreeOfThoughtsParams]):
    """Searches a tree of thoughts, breadth first or depth first."""

    name = "tree_of_thoughts"
    summary = "Thinks of several next thoughts, judges them itself, and follows the best."
    comparison = NO_WIN
    Params = TreeOfThoughtsParams

    def width(self, num_choices: int) -> int:
        """Return the number of thoughts of a round."""
        num_states = self.params.breadth if self.params.search == "bfs" else 1
        return max(num_states * self.params.samples, num_choices)

    def check(self, task: Task) -> None:
        """Refuse more choices than candidates, votes among more states than letters, and proposals under a grammar."""
        super().check(task)
        check_choices(self.name, task, self.params.breadth * self.params.samples, "breadth")
        num, most = self.width(1), len(thoughts.CHOICE_NAMES)
        if self.params.evaluate == "vote" and num > most:
            message = f"{num} states are too many for a vote: breadth times samples may be {most}"
            raise UnsupportedTask(message, parameter="samples")
        if self.params.generate == "propose" and task.is_constrained:
            message = "proposals are free text, and response_format or a required tool allows none: generate by `sample`"
            raise UnsupportedTask(message, parameter="generate")

    def forecast(self, task: Task, answer_tokens: int) -> Forecast:  # noqa: ARG002 - the signature of all strategies
        """Return the cost of a beam of `breadth` states, or depth first of all expansions."""
        num_rounds = self.num_steps(answer_tokens) if self.params.search == "bfs" else self.params.expansions
        num_thoughts = num_rounds * self.width(1)
        tokens = num_thoughts * min(self.params.step_tokens, answer_tokens)
        branches = num_thoughts if self.params.generate == "sample" else num_rounds * self.params.breadth
        evaluations = {
            "value": num_thoughts,
            "vote": num_rounds * self.params.votes,
            "verifier": num_calls(self.params.verifier, num_thoughts),
        }
        return Forecast(branches, tokens, 2 * num_rounds, evaluations[self.params.evaluate])

    async def search(self, tree: Tree) -> Result:
        """Search, then return the answer of the highest value."""
        await (self._breadth_first(tree) if self.params.search == "bfs" else self._depth_first(tree, tree.root))
        await tree.complete(self.params.samples)
        scores = {node.id: node.value or 0.0 for node in tree.nodes}
        return await tree.result(self.context, StopReason.COMPLETED, select="score", scores=scores)

    async def _breadth_first(self, tree: Tree) -> None:
        states = [tree.root]
        while states and not tree.is_over and tree.num_finals < self.params.breadth:
            children = await self._expand(tree, states)
            states = tree.keep((child for child in children if child.is_open), self.params.breadth)
            tree.report_round(states, children)

    async def _depth_first(self, tree: Tree, state: Node, num_expanded: int = 0) -> int:
        """Follow the best thought first; return how many states have been expanded so far."""
        children = await self._expand(tree, [state])
        num_expanded += 1
        tree.report_round([child for child in children if child.is_open], children)
        for child in sorted(children, key=lambda node: node.rank):
            has_enough = num_expanded >= self.params.expansions or tree.num_finals >= self.params.breadth
            if has_enough or tree.is_over:
                break
            if not child.is_open:
                continue
            if (child.value or 0.0) < self.params.prune:
                child.state = NodeState.PRUNED
                continue
            num_expanded = await self._depth_first(tree, child, num_expanded)
        return num_expanded

    async def _expand(self, tree: Tree, states: Sequence[Node]) -> list[Node]:
        """Return the distinct thoughts that follow the states, evaluated and attached."""
        if self.params.generate == "propose" and states[0].depth + 1 < self.params.depth:
            children = await thoughts.propose(
                tree,
                states,
                self.params.propose_prompt,
                self.params.samples,
                separator=self.params.separator,
                max_tokens=self.params.step_tokens,
            )
        else:  # after the last proposal the answer is drawn, once for each remaining state
            num = self.params.samples if self.params.generate == "sample" else 1
            is_scored = self.params.evaluate == "verifier"
            grown = await tree.extend([(state, num) for state in states], is_scored=is_scored)
            children = [child for group in grown for child in group]
        distinct = tree.drop_duplicates(children)
        await self._evaluate(tree, distinct)
        tree.attach(children)
        return distinct

    async def _evaluate(self, tree: Tree, nodes: Sequence[Node]) -> None:
        """Set the nodes' values; at the deadline they keep none, and the search ends."""
        if self.params.evaluate == "verifier":
            await tree.score([node for node in nodes if node.score is None])
            return
        try:
            async with asyncio.timeout_at(tree.model.deadline):
                values = await self._values(tree, nodes)
        except TimeoutError:
            return
        for node, value in zip(nodes, values, strict=True):
            node.value = value
        if self.params.verifier is not None:
            await tree.score([node for node in nodes if node.path.is_complete])

    async def _values(self, tree: Tree, nodes: Sequence[Node]) -> list[float]:
        """Ask the model for the values of the nodes, by votes or one by one."""
        if self.params.evaluate == "vote":
            return await thoughts.vote(tree.task, tree.model, nodes, self.params.vote_prompt, self.params.votes)
        return await thoughts.value(tree.task, tree.model, nodes, self.params.value_prompt)
