"""Beam search and DVTS against trees that can be followed by eye."""

import pytest

from strategies.beam_search import BeamSearch, BeamSearchParams
from strategies.best_of_n import BestOfN, BestOfNParams
from strategies.core.errors import UnsupportedTask
from strategies.core.ports import ignore_events
from strategies.core.values import AnswerKind, StopReason

pytestmark = pytest.mark.anyio

# What was said -> what comes next, by the position among those drawn together. A step ends with a semicolon.
# A word's log-probability is -0.1 for each letter: likelihood prefers steps of short words.
TREE = {
    "": ["aaa;", "b;", "cc;", "b;"],
    "b;": ["dd;", "e 42", "fff;", "e 42"],
    "cc;": ["g;", "hhhh 7", "g;", "i 7"],
    "g;": [],
    "cc;g;": ["j 9", "k 42", "l 42", "m 9"],
    "b;dd;": ["n 42", "o 9", "p 42", "q 9"],
}


def told(result) -> list[tuple]:
    """The tree, a line for each node: id, parent, text, state, score in percent."""
    return [
        (node.id, node.parent, node.text, node.state.value, round(100 * node.score) if node.score is not None else None)
        for node in result.nodes
    ]


def beam(context, **params: object) -> BeamSearch:
    return BeamSearch(BeamSearchParams.model_validate({"separator": ";", **params}), context)


async def test_a_beam_step_by_step(grow, question, context) -> None:
    """N = 4, expand = 2: the best two survive, equal texts count once, whole answers leave the beam and vote in the end."""
    result = await beam(context, n=4, expand=2)(question(), grow(TREE), ignore_events)
    assert told(result) == [
        (0, None, "aaa;", "pruned", 67),
        (1, None, "b;", "open", 82),
        (2, None, "cc;", "open", 74),
        (3, None, "b;", "duplicate", 82),
        (4, 1, "dd;", "open", 74),  # b; and cc; are continued twice each
        (5, 1, "e 42", "chosen", 86),
        (6, 2, "g;", "open", 82),
        (7, 2, "hhhh 7", "final", 78),
        (8, 6, "j 9", "final", 90),  # g; is better than dd; now, and comes first
        (9, 6, "k 42", "final", 86),
        (10, 4, "n 42", "final", 86),
        (11, 4, "o 9", "final", 90),
    ]
    # 42 has 86 + 86 + 86, 9 has 90 + 90, 7 has 78: the heaviest answer by its first best candidate.
    assert result.chosen[0].answer == "42"
    assert result.chosen[0].candidate.index == 5
    assert result.chosen[0].candidate.text == "b;e 42"
    assert result.stop_reason is StopReason.COMPLETED


async def test_diverse_subtrees_are_pruned_each_for_itself(grow, question, context) -> None:
    """DVTS: n = 4, expand = 2 are two subtrees, each follows its best step until that ends an answer."""
    tree = {"": ["aaa;", "b;"], "b;": ["dd;", "e 42"]}
    result = await beam(context, n=4, expand=2, diverse=True)(question(), grow(tree), ignore_events)
    assert told(result) == [
        (0, None, "aaa;", "pruned", 67),
        (1, None, "b;", "open", 82),
        (2, None, "aaa;", "pruned", 67),
        (3, None, "b;", "open", 82),
        (4, 1, "dd;", "pruned", 74),
        (5, 1, "e 42", "chosen", 86),
        (6, 3, "dd;", "pruned", 74),
        (7, 3, "e 42", "final", 86),
    ]


@pytest.mark.parametrize(
    ("aggregation", "values"),
    [("last", [82, 90]), ("min", [82, 82]), ("product", [82, 74]), ("model", [82, 88])],
)
async def test_the_aggregation_of_scores(aggregation: str, values: list[int], grow, question, context) -> None:
    """Scores 0.819 and 0.905 along a path; `model` scores the path as one step: (0.2 + 0.1 + 0.1) / 3 letters."""
    tree = {"": ["b;"], "b;": ["o 9"]}
    result = await beam(context, n=1, expand=1, aggregation=aggregation)(question(), grow(tree), ignore_events)
    assert [round(100 * node.value) for node in result.nodes] == values


async def test_with_one_continuation_each_it_is_best_of_n(grow, question, context) -> None:
    """Expand = 1 prunes nothing: n independent answers, drawn step by step."""
    answers = ["a; b 1", "c; d 2", "e; f 1", "g; h 3"]

    def script(said: str, position: int) -> str:
        whole = next((one for one in answers if said and one.startswith(said)), answers[position])
        return whole[len(said) :]

    beams = await beam(context, n=4, expand=1)(question(), grow(script), ignore_events)
    best = await BestOfN(BestOfNParams(n=4, verifier="majority"), context)(question(), grow(script), ignore_events)
    assert sorted(one.candidate.text for one in beams.candidates) == [one.candidate.text for one in best.candidates]
    assert beams.chosen[0].answer == best.chosen[0].answer == "1"


async def test_where_all_scores_are_equal_it_is_best_of_n(grow, question, context) -> None:
    """N = expand with answers of one step: n answers at once, and nothing but their votes decides."""
    answers = ["x 1", "y 2", "z 2", "w 3"]
    constant = {"logprob": lambda _word: -0.5}
    beams = await beam(context, n=4, expand=4)(question(), grow(lambda _said, i: answers[i], **constant), ignore_events)
    best = await BestOfN(BestOfNParams(n=4, verifier="likelihood", select="vote"), context)(
        question(), grow(lambda _said, i: answers[i], **constant), ignore_events
    )
    assert [one.candidate.text for one in beams.candidates] == [one.candidate.text for one in best.candidates]
    assert beams.chosen[0].candidate.text == best.chosen[0].candidate.text == "y 2"


async def test_the_last_step_runs_to_the_end(grow, question, context) -> None:
    """At `depth` an answer is finished, whatever separators stand in it."""
    result = await beam(context, n=1, expand=1, depth=2)(
        question(), grow(lambda said, _: " a; b; c; 5"[len(said) :]), ignore_events
    )
    assert [node.text for node in result.nodes] == [" a;", " b; c; 5"]
    assert result.chosen[0].answer == "5"


async def test_a_step_has_no_more_tokens_than_it_may(grow, question, context) -> None:
    """Where a model writes no separators the limit makes the steps."""
    result = await beam(context, n=1, expand=1, step_tokens=2)(
        question(), grow(lambda said, _: " a b c d 5"[len(said) :]), ignore_events
    )
    assert [node.text for node in result.nodes] == [" a b", " c d", " 5"]


def test_a_beam_that_cannot_be_divided_is_refused(question, context) -> None:
    """N must be a multiple of expand."""
    with pytest.raises(UnsupportedTask) as refusal:
        beam(context, n=6, expand=4).check(question())
    assert refusal.value.parameter == "expand"


async def test_where_nothing_can_be_compared_the_best_verdict_wins(grow, question, context) -> None:
    """Open answers have no votes."""
    result = await beam(context, n=2, expand=2)(
        question(AnswerKind.OPEN), grow(lambda _said, i: ["longer words", "a b"][i]), ignore_events
    )
    assert result.chosen[0].candidate.text == "a b"
