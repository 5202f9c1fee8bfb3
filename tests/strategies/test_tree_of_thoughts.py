"""Tree of Thoughts against trees that can be followed by eye."""

import math

import pytest

from strategies.core.errors import UnsupportedTask
from strategies.core.ports import ignore_events
from strategies.core.values import StopReason
from strategies.search.thoughts import VALUES, thoughts_of
from strategies.tree_of_thoughts import TreeOfThoughts, TreeOfThoughtsParams

pytestmark = pytest.mark.anyio

TREE = {
    "": ["a;", "b;", "c;"],
    "a;": ["d;", "e;", "f;"],
    "b;": ["g;", "h 1", "i;"],
    "c;": ["j;", "k;", "l;"],
    "b;i;": ["m 42", "n 7", "o 7"],
    "b;g;": ["p 7", "q 7", "r 7"],
    "a;d;": ["s 7", "t 7", "u 7"],
}
SURE = {"b;", "b;i;", "b;i;m 42"}
"""What the model is sure of; the rest it finds likely, and impossible what begins with c."""


def weigh(text: str, word: str) -> float:
    """Log-probability of a value's word after a conversation."""
    said = text.partition("|")[2].partition("\nuser:")[0]
    wanted = "sure" if said in SURE else "impossible" if said.startswith("c;") else "likely"
    return 0.0 if word.strip().lower() == wanted else -math.inf


def tot(context, **params: object) -> TreeOfThoughts:
    return TreeOfThoughts(TreeOfThoughtsParams.model_validate({"separator": ";", "samples": 3, **params}), context)


def told(result) -> list[tuple]:
    return [(node.id, node.parent, node.text, node.state.value, node.value) for node in result.nodes]


async def test_breadth_first_keeps_the_best_states(grow, question, context) -> None:
    """B = 2: of each round the two best go on; the answer is the one of the highest value."""
    result = await tot(context, breadth=2)(question(), grow(TREE, weigh=weigh), ignore_events)
    likely, impossible = VALUES["likely"], VALUES["impossible"]
    assert told(result) == [
        (0, None, "a;", "open", likely),
        (1, None, "b;", "open", 1.0),
        (2, None, "c;", "pruned", impossible),
        (3, 1, "g;", "open", likely),  # b; is better than a;, and comes first
        (4, 1, "h 1", "final", likely),
        (5, 1, "i;", "open", 1.0),
        (6, 0, "d;", "pruned", likely),
        (7, 0, "e;", "pruned", likely),
        (8, 0, "f;", "pruned", likely),
        (9, 5, "m 42", "chosen", 1.0),
        (10, 5, "n 7", "final", likely),
        (11, 5, "o 7", "final", likely),
        (12, 3, "p 7", "final", likely),
        (13, 3, "q 7", "final", likely),
        (14, 3, "r 7", "final", likely),
    ]
    assert result.chosen[0].answer == "42"


async def test_depth_first_follows_the_best_and_gives_up_the_hopeless(grow, question, context) -> None:
    """The best thought first; below `prune` none is followed; it ends with as many answers as `breadth`."""
    result = await tot(context, search="dfs", breadth=20, prune=0.01)(
        question(), grow(TREE | {"a;e;": ["v 7"], "a;f;": ["w 7"]}, weigh=weigh), ignore_events
    )
    order = [node.id for node in result.nodes if node.parent is not None]
    parents = [node.parent for node in result.nodes if node.parent is not None]
    assert order == sorted(order)
    assert parents[:6] == [1, 1, 1, 5, 5, 5]  # into b;, then into b;i;
    assert next(node for node in result.nodes if node.text == "c;").state.value == "pruned"
    assert result.chosen[0].answer == "42"
    few = await tot(context, search="dfs", breadth=1)(question(), grow(TREE, weigh=weigh), ignore_events)
    assert [node.text for node in few.nodes] == ["a;", "b;", "c;", "g;", "h 1", "i;"]


async def test_depth_first_expands_no_more_than_it_may(grow, question, context) -> None:
    """However deep the tree is; then the best path is finished."""
    result = await tot(context, search="dfs", expansions=5, depth=64)(
        question(), grow(lambda _s, i: f"{'abc'[i]};"), ignore_events
    )
    assert [node.finish_reason for node in result.nodes] == 15 * ["step"] + 3 * ["stop"]
    assert result.stop_reason is StopReason.COMPLETED


async def test_a_vote_compares_states_with_each_other(grow, question, context) -> None:
    """Each vote lists them in another order; a model that always says A gives everybody the same."""
    stubborn = await tot(context, evaluate="vote", votes=3, breadth=3, depth=2)(
        question(), grow(TREE, weigh=lambda _text, word: 0.0 if word == "A" else -math.inf), ignore_events
    )
    assert [node.value for node in stubborn.nodes[:3]] == pytest.approx([1 / 3] * 3)

    def knows(text: str, word: str) -> float:
        place = text.index("b;")
        letter = text[:place].rstrip().removesuffix(":")[-1]
        return 0.0 if word == letter else -math.inf

    sure = await tot(context, evaluate="vote", votes=2, depth=1, breadth=1)(
        question(), grow({"": ["a 1", "b;", "c 3"]}, weigh=knows), ignore_events
    )
    assert [node.value for node in sure.nodes] == [0.0, 1.0, 0.0]


async def test_proposals_are_one_list_a_state(grow, question, context) -> None:
    """Each line is a thought; the last step is drawn, once for each state."""

    def script(said: str, _position: int) -> str:
        if said.endswith("assistant:"):
            return "Sure:\n1. x\n2) y\n- z\n" if not said.startswith("x") else "1. 2 + 2\n1. 2 + 2\n"
        return " 42"

    result = await tot(context, generate="propose", depth=3, breadth=1, samples=4)(question(), grow(script), ignore_events)
    texts = [node.text for node in result.nodes]
    assert texts[:4] == ["Sure:;", "x;", "y;", "z;"]
    assert result.chosen[0].candidate.text.endswith(" 42")
    assert len(result.candidates) == 1


@pytest.mark.parametrize(
    ("text", "thoughts"),
    [
        ("1. a\n2. b\n3. c", ["a", "b"]),
        ("- a\n* b", ["a", "b"]),
        ("a\n\na\n  b  ", ["a", "b"]),
        ("12) a\n13: b", ["a", "b"]),
        ("1.5 is a number\n-4 is one too", ["1.5 is a number", "-4 is one too"]),
        ("", []),
        ("   \n\t", []),
    ],
)
def test_lines_of_a_list(text: str, thoughts: list[str]) -> None:
    """Bullets and numbers are not part of a thought; numbers that are stay."""
    assert thoughts_of(text, 2) == thoughts


def test_what_cannot_be_honoured_is_refused(question, context) -> None:
    """More states than letters, proposals under a grammar."""
    with pytest.raises(UnsupportedTask) as votes:
        tot(context, evaluate="vote", breadth=10).check(question())
    assert votes.value.parameter == "samples"
    with pytest.raises(UnsupportedTask) as grammar:
        tot(context, generate="propose").check(question(is_constrained=True))
    assert grammar.value.parameter == "generate"


async def test_the_paper_s_samples_are_read_from_the_probabilities(grow, question, context) -> None:
    """Half sure, half likely is worth (1 + 1/20) / 2, as many samples would tell on average; capitals count too."""
    half = grow({"": ["a 1"]}, weigh=lambda _t, word: math.log(0.5) if word.strip() in {"Sure", "likely"} else -math.inf)
    result = await tot(context, samples=1)(question(), half, ignore_events)
    assert result.nodes[0].value == pytest.approx((1 + 1 / 20) / 2)
