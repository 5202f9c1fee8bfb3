"""MCTS guided by its budget: the formulas against a table, a tree that one can follow by hand, and answers at the end of any budget."""

import math
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strategies.core.ports import ignore_events
from strategies.core.results import Progress
from strategies.core.values import StopReason
from strategies.mcts import Mcts
from strategies.search.mcts_run import MctsParams
from strategies.search.uct import budget_puct, worth_of_new_child

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("mean", "depth", "visits", "parent_visits", "prior", "spent", "expected"),
    [
        (0.5, 0.5, 1, math.e, 0.5, 0.0, 1.0),  # nothing is spent: depth counts nothing, 0.5 + 1 * 0.5 * sqrt(1 / 1)
        (0.5, 0.5, 1, math.e, 0.5, 0.5, 1.0),  # 0.5 + 0.5 * 0.5 + 0.5 * 0.5
        (0.5, 0.5, 1, math.e, 0.5, 1.0, 1.0),  # all is spent: no exploration, 0.5 + 0.5
        (0.2, 1.0, 4, math.e**4, 0.25, 0.2, 0.6),  # 0.2 + 0.2 + 0.8 * 0.25 * sqrt(4 / 4)
        (0.2, 1.0, 4, 1, 0.25, 0.2, 0.4),
    ],
)
def test_the_worth_of_a_child(mean, depth, visits, parent_visits, prior, spent, expected) -> None:
    """Mean + s d + c (1 - s) P sqrt(ln N_parent / N), with c = 1."""
    worth = budget_puct(mean, depth, visits, parent_visits, exploration=1.0, prior=prior, spent=spent)
    assert worth == pytest.approx(expected)


def test_the_worth_of_a_new_child_fades() -> None:
    """Mean + (1 - s) variance: 0.5 and 0.25 at first, the mean alone in the end."""
    assert worth_of_new_child([0.0, 1.0], spent=0.0) == pytest.approx(0.75)
    assert worth_of_new_child([0.0, 1.0], spent=0.6) == pytest.approx(0.6)
    assert worth_of_new_child([0.0, 1.0], spent=1.0) == pytest.approx(0.5)


def search(context, **params: object) -> Mcts:
    given = {"separator": ";", "step_tokens": 4, "expand": 2, "workers": 1, "selection": "budget", **params}
    return Mcts(MctsParams.model_validate(given), context)


def long_story(said: str, position: int) -> str:
    """Answers of eight steps of three tokens; the words differ by their position."""
    left = 8 - said.count(";")
    words = ["a", "bb", "ccc", "dddd"][position % 4]
    return "".join(f" {words} {words} {words};" for _ in range(left)) + f" so {41 + position % 2}"


async def test_a_search_followed_by_hand(grow, question, context) -> None:
    """The golden run: a budget of 12 tokens, of which the last three are for completing answers; c = 0. Each expansion reserves four.

    1: the root is expanded: a; (0.819) and bbb; (0.670).
    2: a; is worth 0.819 + 2/12 * 1, a new child 0.745 + 10/12 * 0.0055: a; is expanded; its steps have 0.368.
    3: a; is worth 0.518 + 4/12 * (1 + 2 + 2) / 3 / 2 = 0.796, bbb; 0.670 + 4/12 * 1/2 = 0.837, a new child 0.749: bbb; is expanded.
    4: seven tokens and four are too many. Two workers' leaves are completed together: f;, then ccccccccc;, the first of two equals.
    5: one token is left, and what is begun is finished: ddddddddd;.
    """
    tree = {
        "": ["a;", "bbb;"],
        "a;": ["ccccccccc;", "ddddddddd;"],
        "bbb;": ["e 42", "f;"],
        "bbb;f;": ["k 42"],
        "a;ccccccccc;": ["g 7"],
        "a;ddddddddd;": ["i 7"],
    }
    strategy = search(context, tokens=12, step_tokens=2, exploration=0.0)
    result = await strategy(question(), grow(tree), ignore_events)
    assert [(node.id, node.parent, node.text, node.visits) for node in result.nodes] == [
        (0, None, "a;", 5),
        (1, None, "bbb;", 4),
        (2, 0, "ccccccccc;", 2),
        (3, 0, "ddddddddd;", 2),
        (4, 1, "e 42", 1),
        (5, 1, "f;", 2),
        (6, 5, "k 42", 1),
        (7, 2, "g 7", 1),
        (8, 3, "i 7", 1),
    ]
    assert result.chosen[0].answer == "7"  # twice exp(-0.1), and 42 has twice exp(-0.15)
    assert result.stop_reason is StopReason.COMPLETED


async def test_it_widens_early_and_goes_deep_late(grow, question, context) -> None:
    """The mean depth of the nodes that are drawn rises with the budget that is spent."""
    result = await search(context, tokens=240, workers=2)(question(), grow(long_story), ignore_events)
    by_id = {node.id: node for node in result.nodes}

    def depth(node) -> int:
        return 1 if node.parent is None else 1 + depth(by_id[node.parent])

    depths = [depth(node) for node in result.nodes if node.finish_reason == "step"]
    third = len(depths) // 3
    means = [sum(part) / len(part) for part in (depths[:third], depths[third : 2 * third], depths[2 * third :])]
    assert all(earlier < later for earlier, later in pairwise(means))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(tokens=st.integers(110, 400), workers=st.integers(1, 4), expand=st.integers(1, 4))
async def test_no_budget_ends_without_a_whole_answer(tokens, workers, expand, grow, question, context) -> None:
    """Whose last quarter has room for one, which has 26 tokens. The request's budget holds where it is smaller than the search's own."""
    result = await search(context, tokens=1000, workers=workers, expand=expand)(
        question(), grow(long_story, tokens=tokens), ignore_events
    )
    assert len(result.chosen) == 1
    assert result.chosen[0].candidate.is_complete
    assert result.chosen[0].answer in {"41", "42"}


async def test_its_own_budget_is_spent_and_hardly_more(grow, question, context) -> None:
    """Answers that were begun are finished, so that the last ones may exceed it; each is shorter than 26 tokens."""
    model = grow(long_story)
    result = await search(context, tokens=200)(question(), model, ignore_events)
    spent = sum(node.tokens for node in result.nodes)
    assert 200 <= spent <= 226
    assert result.stop_reason is StopReason.COMPLETED
    assert len(result.candidates) > 1


async def test_without_a_budget_it_has_that_of_its_iterations(grow, question, context) -> None:
    """Iterations * expand * step_tokens."""
    result = await search(context, iterations=10)(question(), grow(long_story), ignore_events)
    assert 80 <= sum(node.tokens for node in result.nodes) <= 106


async def test_a_budget_too_short_for_steps_is_spent_on_answers(grow, question, context) -> None:
    """Two workers of two steps would take more than three quarters of it, so nothing is expanded."""
    told: list[object] = []
    result = await search(context, tokens=10)(question(), grow(long_story), told.append)
    assert [node.parent for node in result.nodes] == [None]
    assert result.chosen[0].candidate.is_complete
    assert any(isinstance(event, Progress) and event.text for event in told)
