"""How all searches draw steps: fewer where the first ones agree, aligned with blocks of the prefix cache, the first one hotter."""

import pytest

from strategies.beam_search import BeamSearch, BeamSearchParams
from strategies.core.ports import ignore_events
from strategies.core.values import Step
from strategies.mcts import Mcts, MctsParams
from strategies.particle_filtering import ParticleFiltering, ParticleFilteringParams
from strategies.search.tree import Steps
from strategies.tree_of_thoughts import TreeOfThoughts, TreeOfThoughtsParams

pytestmark = pytest.mark.anyio

# A word's log-probability is -0.1 for each letter, and the verifier is likelihood: words of seven letters and more score below 0.5.
SURE = {"": ["a;", "a;", "bb;", "cc;"], "a;": ["d 42", "d 42", "e 7", "f 7"]}
UNSURE = {"": ["a;", "bb;", "cc;", "dd;"], "a;": ["e 42", "f 7", "g 7", "h 7"], "bb;": ["i 42"], "cc;": ["j 7"], "dd;": ["k 7"]}
WRONG = {"": ["aaaaaaaaa;", "aaaaaaaaa;", "b;", "b;"], "b;": ["d 42", "d 42", "e 7", "f 7"], "aaaaaaaaa;": ["x 1"]}

BUILT = {
    "beam_search": lambda context, **params: BeamSearch(BeamSearchParams(n=4, expand=4, separator=";", **params), context),
    "tree_of_thoughts": lambda context, **params: TreeOfThoughts(
        TreeOfThoughtsParams(samples=4, breadth=1, evaluate="verifier", separator=";", **params), context
    ),
    "mcts": lambda context, **params: Mcts(MctsParams(iterations=2, expand=4, workers=1, separator=";", **params), context),
    "particle_filtering": lambda context, **params: ParticleFiltering(
        ParticleFilteringParams(n=4, separator=";", **params), context
    ),
}
ALL = pytest.mark.parametrize("name", BUILT)


@ALL
async def test_where_the_first_steps_agree_no_others_are_drawn(name: str, grow, question, context) -> None:
    """Two of four at each of two steps. Without `tries` it is all four, though only two are drawn of the next state."""
    model = grow(SURE)
    result = await BUILT[name](context, tries=2)(question(seed=1), model, ignore_events)
    assert [node.text for node in result.nodes] == ["a;", "a;", "d 42", "d 42"]
    assert model.num_drawn == 4
    assert result.chosen[0].answer == "42"


@ALL
async def test_where_they_differ_the_others_are_drawn_too(name: str, grow, question, context) -> None:
    """Then it is the same as drawing them at once, ids and all, but for the positions within a draw."""
    model = grow(UNSURE)
    result = await BUILT[name](context, tries=2)(question(seed=1), model, ignore_events)
    assert sum(node.parent is None for node in result.nodes) == 4


@ALL
async def test_equal_steps_that_the_verifier_doubts_are_not_enough(name: str, grow, question, context) -> None:
    """A model may be wrong twice in the same way: exp(-0.9) is below one half."""
    model = grow(lambda said, position: WRONG[said][(position + model.num_drawn) % len(WRONG[said])])
    result = await BUILT[name](context, tries=2)(question(seed=1), model, ignore_events)
    assert sorted(node.text for node in result.nodes if node.parent is None) == ["aaaaaaaaa;", "aaaaaaaaa;", "b;", "b;"]


async def test_one_try_goes_on_as_long_as_the_verifier_believes_it(grow, question, context) -> None:
    """A single step agrees with itself, so this is one answer, and others only behind what is doubted."""
    model = grow(SURE)
    result = await BUILT["beam_search"](context, tries=1)(question(), model, ignore_events)
    assert [node.text for node in result.nodes] == ["a;", "d 42"]


async def test_a_step_of_particles_that_agree_stands_for_all_of_them(grow, question, context) -> None:
    """Two states of two particles each, so each is continued twice, not as often as it was drawn."""
    tree = {"": ["a;", "bb;", "a;", "bb;"], "a;": ["c 1"], "bb;": ["d 2"]}
    result = await BUILT["particle_filtering"](context, tries=1)(question(seed=3), grow(tree), ignore_events)
    assert [node.text for node in result.nodes] == ["a;", "c 1"]
    assert result.chosen[0].answer == "1"


async def test_equal_steps_are_scored_once(grow, question, context) -> None:
    """By a verifier that asks a model, too: four draws, two different texts."""
    model = grow({"": ["a 1", "bb 2", "a 1", "bb 2"]})
    beam = BeamSearch(BeamSearchParams(n=4, expand=4, separator=";", verifier="p_true"), context)
    result = await beam(question(), model, ignore_events)
    assert len(model.asked) == 2
    assert all(node.score is not None for node in result.nodes)


@ALL
async def test_only_the_first_step_has_a_temperature_of_its_own(name: str, grow, question, context) -> None:
    """The others have the request's."""
    model = grow(UNSURE)
    await BUILT[name](context, first_temperature=1.3)(question(seed=1), model, ignore_events)
    assert model.temperatures[0] == 1.3
    assert set(model.temperatures[1:]) == {None}


@pytest.mark.parametrize(
    ("prefix", "most", "expected"),
    [
        (33, 32, 32),  # one block and one token: a whole block more
        (40, 32, 25),  # up to 65 = two blocks and one token
        (64, 32, 1),
        (40, 48, 25),
        (50, 48, 47),  # up to 97
        (40, 8, 8),  # no block is full within the step, so it is as long as it may be
    ],
)
def test_steps_end_one_token_behind_a_full_block(prefix: int, most: int, expected: int) -> None:
    """So that what continues them finds every token but one in the prefix cache; never longer than `step_tokens`."""
    steps = Steps(Step((";",), most), depth=8, align=32)
    assert steps.behind(prefix) == Step((";",), expected)
    assert Steps(Step((";",), most), depth=8).behind(prefix) == Step((";",), most)
