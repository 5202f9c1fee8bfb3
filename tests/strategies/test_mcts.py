"""Tree search: the rule's arithmetic against a table, whole trees against what one can follow by hand."""

import math

import pytest

from strategies.core.errors import UnsupportedTask
from strategies.core.ports import ignore_events
from strategies.core.values import AnswerKind, StopReason
from strategies.mcts import Mcts
from strategies.search.mcts_run import MctsParams
from strategies.search.uct import priors, puct, uct

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("mean", "visits", "parent_visits", "exploration", "expected"),
    [
        (0.5, 1, 1, 1.0, 0.5),  # ln 1 = 0
        (0.5, 1, math.e, 1.0, 1.5),  # sqrt(1 / 1)
        (0.0, 2, math.e**2, 1.0, 1.0),  # sqrt(2 / 2)
        (0.25, 4, 10, math.sqrt(2), 1.3230),  # 0.25 + 1.41421 * sqrt(2.302585 / 4) = 0.25 + 1.41421 * 0.75871
        (0.75, 10, 10, 1.4, 1.4218),  # 0.75 + 1.4 * sqrt(0.2302585) = 0.75 + 1.4 * 0.47985
        (0.9, 0, 10, 1.4, math.inf),
        (0.9, 5, 100, 0.0, 0.9),
    ],
)
def test_uct(mean: float, visits: int, parent_visits: int, exploration: float, expected: float) -> None:
    """Q/N + c sqrt(ln N_parent / N)."""
    assert uct(mean, visits, parent_visits, exploration) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("mean", "visits", "parent_visits", "exploration", "prior", "expected"),
    [
        (0.5, 0, 4, 1.0, 0.5, 1.5),  # 0.5 + 1 * 0.5 * 2 / 1
        (0.5, 1, 4, 1.0, 0.5, 1.0),  # 0.5 + 1 * 0.5 * 2 / 2
        (0.2, 3, 16, 2.0, 0.25, 0.7),  # 0.2 + 2 * 0.25 * 4 / 4
        (0.2, 3, 16, 2.0, 0.0, 0.2),
    ],
)
def test_puct(mean: float, visits: int, parent_visits: int, exploration: float, prior: float, expected: float) -> None:
    """Q/N + c P sqrt(N_parent) / (1 + N)."""
    assert puct(mean, visits, parent_visits, exploration, prior) == pytest.approx(expected)


def test_priors_are_a_softmax() -> None:
    """Of the mean log-probabilities of siblings; equal shares where nothing is known."""
    assert priors([math.log(0.2), math.log(0.6), math.log(0.2)]) == pytest.approx([0.2, 0.6, 0.2])
    assert priors([-math.inf, -math.inf]) == [0.5, 0.5]
    assert priors([]) == []


# A word's log-probability is -0.1 for each letter, its mean is the score of a step. Steps end with a semicolon.
TREE = {
    "": ["a;", "bbb;"],  # 0.819, 0.670
    "a;": ["ccccccccc;", "ddddddddd;"],  # 0.368 both
    "bbb;": ["e 42", "f;"],  # 0.861, 0.819
    "a;ccccccccc;": ["g 7", "h 7"],
    "a;ddddddddd;": ["i 7", "j 7"],
    "bbb;f;": ["k 42", "l 9"],
}


def search(context, **params: object) -> Mcts:
    return Mcts(MctsParams.model_validate({"separator": ";", "expand": 2, "workers": 1, "exploration": 0.5, **params}), context)


def told(result) -> list[tuple]:
    """id, parent, text, visits, mean value in percent."""
    return [
        (node.id, node.parent, node.text, node.visits, None if node.value is None else round(100 * node.value))
        for node in result.nodes
    ]


async def test_a_search_followed_by_hand(grow, question, context) -> None:
    """Three iterations, one worker, c = 0.5.

    1: the root is expanded: a; (0.819) and bbb; (0.670), one visit each.
    2: UCT a; = 0.819 + 0.5 sqrt(ln 2 / 1) = 1.235, bbb; = 1.087: a; is expanded; both steps get 0.368, so a; has
       (0.819 + 0.368 + 0.368) / 3 = 0.518 of 3 visits, the root 4 visits.
    3: UCT a; = 0.518 + 0.5 sqrt(ln 4 / 3) = 0.858, bbb; = 0.670 + 0.5 sqrt(ln 4 / 1) = 1.259: bbb; is expanded;
       (0.670 + 0.861 + 0.741) / 3.
    """
    result = await search(context, iterations=3)(question(), grow(TREE), ignore_events)
    assert told(result) == [
        (0, None, "a;", 3, 82),  # the value that was told when it was backed up first
        (1, None, "bbb;", 3, 67),
        (2, 0, "ccccccccc;", 1, 37),
        (3, 0, "ddddddddd;", 1, 37),
        (4, 1, "e 42", 1, 86),
        (5, 1, "f;", 1, 82),
    ]
    assert result.chosen[0].answer == "42"
    assert result.stop_reason is StopReason.COMPLETED


async def test_workers_are_kept_apart_by_virtual_loss(grow, question, context) -> None:
    """In the beginning there is only the root, which both expand. Then a; is better, but while one is there the other takes bbb;."""
    result = await search(context, iterations=4, workers=2)(question(), grow(TREE), ignore_events)
    assert [node.parent for node in result.nodes] == [None, None, None, None, 0, 0, 1, 1]
    assert [node.state.value for node in result.nodes[:4]] == ["open", "open", "duplicate", "duplicate"]
    assert [node.visits for node in result.nodes[:4]] == [3, 3, 0, 0]  # what was said twice counts once


async def test_what_is_whole_is_not_expanded_and_a_finished_tree_ends_the_search(grow, question, context) -> None:
    """All of the tree is expanded once; then nothing is left to select."""
    result = await search(context, iterations=100, final="value")(question(), grow(TREE), ignore_events)
    assert len(result.nodes) == 12
    assert result.stop_reason is StopReason.COMPLETED


async def test_it_stops_when_the_leader_cannot_be_overtaken(grow, question, context) -> None:
    """Six iterations of two votes. After four, 42 has eight of weight 0.86; the two that are left could bring four of weight 1."""
    wide = await search(context, iterations=6, widening=0.9)(question(), grow({"": ["x 42", "y 42"]}), ignore_events)
    assert len(wide.nodes) == 8
    assert wide.stop_reason is StopReason.SETTLED
    assert wide.chosen[0].answer == "42"


async def test_agreement_values_a_step_by_the_answers_it_leads_to(grow, question, context) -> None:
    """Two rollouts each: what agrees with the majority of all counts as one, the rest as nothing."""

    def script(said: str, position: int) -> str:
        if not said:
            return ["a; 42", "b; 7"][position]
        return " 42" if said.startswith("a;") else [" 7", " 42"][position]

    result = await search(context, iterations=1, value="agreement", rollouts=2)(question(), grow(script), ignore_events)
    by_text = {node.text: node for node in result.nodes if node.parent is None}
    assert (by_text["a;"].visits, by_text["a;"].value) == (2, 1.0)
    assert (by_text["b;"].visits, by_text["b;"].value) == (2, 0.5)
    assert result.chosen[0].answer == "42"
    assert result.chosen[0].score == 0.75  # three of four answers


async def test_rollouts_are_judged_by_the_verifier(grow, question, context) -> None:
    """The value of a step is the mean score of the answers that were completed from it; the step itself is not scored."""

    def script(said: str, position: int) -> str:
        return ["a; 1", "b; 42"][position] if not said else (" 1" if said.startswith("a;") else " 42")

    rule = {"number": 42}
    result = await search(context, iterations=1, value="rollout", verifier=rule)(question(), grow(script), ignore_events)
    values = {node.text: (node.value, node.score) for node in result.nodes if node.parent is None}
    assert values == {"a;": (0.0, None), "b;": (1.0, None)}
    assert result.stop_reason is StopReason.VERIFIED


async def test_the_most_visited_path_can_give_the_answer(grow, question, context) -> None:
    """`visits` follows the most visited path, not the best single score."""
    tree = {"": ["a;", "bbb;"], "a;": ["cc 1", "dd;"], "a;dd;": ["ee 1", "ff 1"], "bbb;": ["g 2", "h 2"]}
    found = await search(context, iterations=3, final="visits", exploration=0.0)(question(), grow(tree), ignore_events)
    assert found.chosen[0].answer == "1"


async def test_a_search_that_ends_before_any_answer_is_whole_finishes_its_best_path(grow, question, context) -> None:
    """However few iterations there are, the answer is one."""
    result = await search(context, iterations=1)(
        question(), grow(lambda said, i: f"{'ab'[i]}; b; c; {i}" if not said else " d 5"), ignore_events
    )
    assert [(node.text, node.parent) for node in result.nodes] == [("a;", None), ("b;", None), (" d 5", 0), (" d 5", 0)]
    assert result.chosen[0].answer == "5"


async def test_widening_lets_a_node_have_more_children(grow, question, context) -> None:
    """Expand * N^widening: the root of four visits and more is expanded again with 0.5."""
    result = await search(context, iterations=4, widening=0.5)(
        question(), grow(lambda said, i: f"{'abcdef'[i]};"), ignore_events
    )
    assert sum(node.parent is None for node in result.nodes) > 2


async def test_puct_prefers_what_the_model_finds_likely(grow, question, context) -> None:
    """With equal scores the prior decides which node is expanded next."""
    tree = {"": ["bbbbbbbbb;", "a;"], "a;": ["x 1", "y 1"], "bbbbbbbbb;": ["v 2", "w 2"]}
    params = {"iterations": 2, "selection": "puct", "exploration": 5.0, "value": "agreement"}
    result = await search(context, **params)(question(), grow(tree), ignore_events)
    assert any(node.parent == 1 and not node.text.startswith("v") for node in result.nodes)


def test_a_tree_that_is_too_large_is_refused(question, context) -> None:
    """What one request may grow is bounded, whatever its budget."""
    with pytest.raises(UnsupportedTask) as refusal:
        search(context, iterations=1024, expand=64).check(question())
    assert refusal.value.parameter == "iterations"


def test_agreement_needs_answers_that_compare(question, context) -> None:
    """As every vote."""
    with pytest.raises(UnsupportedTask) as refusal:
        search(context, value="agreement").check(question(AnswerKind.OPEN))
    assert refusal.value.parameter == "value"
