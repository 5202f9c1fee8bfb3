"""One answer, checked line by line: what is true stays, what is false is written again from there."""

import pytest

from strategies.backtracking import Backtracking, BacktrackingParams
from strategies.core.ports import ignore_events
from strategies.core.results import NodeState
from strategies.core.values import StopReason

from tests.strategies.conftest import TreeModel  # isort: skip

pytestmark = pytest.mark.anyio


def backtracking(context, **params: object) -> Backtracking:
    return Backtracking(BacktrackingParams(**params), context)


async def test_only_the_false_line_is_written_again(asked, context, words) -> None:
    """Where the calculator does not know the result."""
    rests = iter(
        ["1 + 1 = 2\n20 / 3 = 5\n5 + 1 = 6\nso it is 6", "\n20 / 3 = 7\nit is 7", "\n2 + 2 = 4\n4 + 1 = 5\nso it is 5"]
    )
    model = TreeModel(words, lambda said, position: next(rests))
    result = await backtracking(context)(asked, model, ignore_events)
    [final] = result.chosen
    assert final.candidate.text == "1 + 1 = 2\n2 + 2 = 4\n4 + 1 = 5\nso it is 5"
    assert (final.answer, final.score, result.stop_reason) == ("5", 1.0, StopReason.COMPLETED)
    first, second, third = result.nodes
    assert "so it is 6" not in first.text
    assert "it is 7" not in second.text
    assert [node.state for node in result.nodes] == [NodeState.PRUNED, NodeState.PRUNED, NodeState.CHOSEN]
    assert (second.parent, third.parent) == (first.id, first.id)
    assert words.decode(final.candidate.token_ids) == final.candidate.text


async def test_an_answer_without_a_false_line_costs_what_a_direct_one_does(asked, context, words) -> None:
    model = TreeModel(words, lambda said, position: "1 + 1 = 2\nit is 2")
    result = await backtracking(context)(asked, model, ignore_events)
    assert model.num_drawn == 1
    assert result.chosen[0].score == 1.0


async def test_after_repeated_failures_an_earlier_line_is_rewritten(asked, context, words) -> None:
    """After two failures of the same line, the answer goes back one line more."""
    seen = []

    def script(said: str, position: int) -> str:
        seen.append(said)
        return "take 3\n20 / 3 = 8\nit is 8" if not said else "\n20 / 3 = 8\nit is 8"

    result = await backtracking(context, attempts=5)(asked, TreeModel(words, script), ignore_events)
    assert seen[:4] == ["", "take 3", "take 3", ""]
    assert result.chosen[0].answer == "8"  # something must be answered: the first attempt


async def test_a_spent_budget_gives_what_there_is(asked, context, words) -> None:
    model = TreeModel(words, lambda said, position: "1 + 1 = 3\nit is 3", tokens=4)
    result = await backtracking(context)(asked, model, ignore_events)
    assert result.stop_reason is StopReason.TOKENS
    assert len(result.chosen) == 1
