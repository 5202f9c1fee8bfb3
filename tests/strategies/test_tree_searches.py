"""What all searches over steps promise, whatever they look for: they depend on the samples alone, keep to their width, and end clean."""

import asyncio
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strategies.core.ports import ignore_events
from strategies.core.results import NodeState, Result
from strategies.core.values import StopReason
from strategies.registry import STRATEGIES

pytestmark = pytest.mark.anyio

SEARCHES = {
    "best_of_n reject": {"n": 8, "reject": 0.5},
    "best_of_n reject vote": {"n": 6, "reject": 0.3, "wave_tokens": 2, "select": "vote"},
    "beam_search": {"n": 4, "expand": 2},
    "beam_search diverse": {"n": 4, "expand": 2, "diverse": True},
    "beam_search product": {"n": 6, "expand": 3, "aggregation": "product"},
    "beam_search tries": {"n": 4, "expand": 2, "tries": 2, "first_temperature": 1.2, "align": 4},
    "tree_of_thoughts": {"samples": 3, "breadth": 2},
    "tree_of_thoughts tries": {"samples": 3, "breadth": 2, "tries": 2},
    "tree_of_thoughts vote": {"samples": 3, "breadth": 2, "evaluate": "vote"},
    "tree_of_thoughts dfs": {"samples": 3, "breadth": 3, "search": "dfs", "expansions": 8, "evaluate": "verifier"},
    "tree_of_thoughts propose": {"generate": "propose", "depth": 3},
    "mcts": {"iterations": 8, "expand": 2, "workers": 3},
    "mcts puct": {"iterations": 8, "expand": 2, "workers": 3, "selection": "puct", "widening": 0.5, "final": "visits"},
    "mcts rollout": {"iterations": 6, "expand": 2, "workers": 3, "value": "rollout", "final": "value"},
    "mcts agreement": {"iterations": 6, "expand": 2, "workers": 3, "value": "agreement", "rollouts": 2},
    "mcts budget": {"selection": "budget", "expand": 2, "workers": 3, "tokens": 60, "step_tokens": 4},
    "mcts budget rollout": {
        "selection": "budget",
        "expand": 2,
        "workers": 2,
        "tokens": 90,
        "step_tokens": 4,
        "value": "rollout",
    },
    "mcts budget agreement": {"selection": "budget", "expand": 2, "tokens": 90, "step_tokens": 4, "value": "agreement"},
    "particle_filtering": {"n": 4},
    "particle_filtering tries": {"n": 4, "tries": 2},
    "sequential_revision": {"chains": 2, "attempts": 3},
    "self_aggregation": {"n": 3, "rounds": 3},
}
IN_ROUNDS = ("sequential_revision", "self_aggregation")
"""Their answers are whole, and their parents are those that they were written with in view."""
ALL = pytest.mark.parametrize("name", SEARCHES)


def story(said: str, position: int) -> str:
    """Answers of three steps. A step depends on the text before it and on its position among those drawn together."""
    chance = random.Random(f"{said}/{position % 5}")
    if said.endswith("assistant:") and "List" in said:
        return "".join(f"{number}. {chance.choice(['one', 'three', 'four'])} {number}\n" for number in range(1, 5))
    steps = said.count(";")
    words = " ".join(chance.choice(["one", "three", "four", "eleven"]) for _ in range(chance.randrange(1, 4)))
    rest = [f" {words};" for _ in range(2 - steps)] + [f" so {chance.choice([41, 42, 42, 7])}"]
    return "".join(rest)


def build(name: str, context, **more: object):
    cls = STRATEGIES[name.split(maxsplit=1)[0]]
    stepwise = {"separator": ";"} if "separator" in cls.Params.model_fields else {}
    return cls(cls.Params.model_validate({**stepwise, **SEARCHES[name], **more}), context)


async def run(name: str, task, model, context, emit=ignore_events) -> Result:
    return await build(name, context)(task, model, emit)


@ALL
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(seed=st.integers(0, 2**32))
async def test_the_order_of_completion_changes_nothing(name: str, seed: int, grow, question, context) -> None:
    """The whole tree is the same, node by node, whichever branch is ready first."""
    usual = await run(name, question(seed=1), grow(story), context)
    other = await run(name, question(seed=1), grow(story, shuffle=random.Random(seed)), context)
    assert other == usual
    assert len(usual.nodes) > 4


@ALL
async def test_never_more_branches_than_its_width(name: str, grow, question, context) -> None:
    """Admission counted on it; and nothing is left open."""
    model = grow(story)
    strategy = build(name, context)
    await strategy(question(), model, ignore_events)
    assert 0 < model.most_open <= strategy.width(1)
    assert model.num_open == 0


@ALL
async def test_the_tree_is_whole(name: str, grow, question, context) -> None:
    """Every parent is there and older; candidates are nodes; exactly the chosen are marked so."""
    result = await run(name, question(), grow(story), context)
    by_id = {node.id: node for node in result.nodes}
    assert len(by_id) == len(result.nodes)
    assert all(node.parent is None or (node.parent in by_id and node.parent < node.id) for node in result.nodes)
    assert {one.candidate.index for one in result.candidates} <= by_id.keys()
    chosen = {node.id for node in result.nodes if node.state is NodeState.CHOSEN}
    assert chosen == {one.candidate.index for one in result.chosen}


@ALL
@pytest.mark.parametrize("tokens", [0, 1, 2, 5, 9, 14, 30])
async def test_a_spent_budget_returns_the_best_so_far(name: str, tokens: int, grow, question, context) -> None:
    """Also in the middle of a step, when no answer is whole yet; only with nothing at all is there no answer."""
    result = await run(name, question(), grow(story, tokens=tokens), context)
    assert len(result.chosen) == (1 if tokens else 0)
    if tokens < 10:
        assert result.stop_reason is StopReason.TOKENS


@ALL
@pytest.mark.parametrize("hang_after", [0, 1, 3])
async def test_cancelled_from_outside_it_ends_its_branches(name: str, hang_after: int, grow, question, context) -> None:
    """A disconnect in the middle leaves nothing behind."""
    model = grow(story, hang_after=hang_after)
    running = asyncio.create_task(run(name, question(), model, context))
    for _ in range(200):
        await asyncio.sleep(0)
    assert model.num_open > 0
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert model.num_open == 0


@pytest.mark.parametrize("name", [name for name in SEARCHES if "propose" not in name])  # which is refused instead
async def test_a_grammar_is_never_entered_in_its_middle(name: str, grow, question, context) -> None:
    """Where the form of the answer is constrained from its first token on, a step is a whole answer."""
    result = await run(name, question(is_constrained=True), grow(story), context)
    assert all(node.parent is None for node in result.nodes) or name in IN_ROUNDS
    assert all(one.candidate.is_complete for one in result.candidates)


@ALL
async def test_it_tells_how_it_goes(name: str, grow, question, context) -> None:
    """In plain words, with the new nodes; at the end every node has been reported in its final state."""
    told: list[object] = []
    result = await run(name, question(), grow(story), context, told.append)
    assert sum(bool(event.text) for event in told) >= 2
    latest = {node.id: node for event in told for node in event.nodes}
    assert set(latest) == {node.id for node in result.nodes}
    if name not in IN_ROUNDS:
        assert tuple(latest[node.id] for node in result.nodes) == result.nodes


@ALL
async def test_a_proven_answer_ends_the_search(name: str, grow, question, context) -> None:
    """A rule that accepts an answer leaves nothing to look for."""
    strategy = build(name, context, verifier={"number": 42})
    result = await strategy(question(), grow(story), ignore_events)
    if any(one.answer == "42" for one in result.candidates):
        assert result.chosen[0].answer == "42"
        assert result.stop_reason is StopReason.VERIFIED
