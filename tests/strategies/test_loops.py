"""Loops over several steps of an answer, which the engine does not see: each step is a call of its own."""

import pytest

from strategies.beam_search import BeamSearch, BeamSearchParams
from strategies.core.ports import ignore_events
from strategies.core.results import TraceNode
from strategies.core.values import AnswerKind
from strategies.search.loops import ends_in_loop


@pytest.mark.parametrize("size", [1, 3, 16, 31, 32])
def test_a_loop_is_equal_rounds_at_the_end(size: int) -> None:
    """Where the last 64 tokens or more are the same rounds."""
    round_ = list(range(size))
    assert ends_in_loop([*range(100, 120), *round_ * 200])
    assert not ends_in_loop([*round_ * 200, 999])
    assert not ends_in_loop(round_ * (63 // size))
    assert not ends_in_loop(list(range(500)))


@pytest.mark.anyio
@pytest.mark.parametrize(("fields", "ends"), [({}, True), ({"kind": AnswerKind.OPEN}, False), ({"has_own_loops": True}, False)])
async def test_a_search_does_not_continue_a_path_that_loops(grow, question, context, *, fields: dict, ends: bool) -> None:
    """It is a leaf without an answer. Where repeated text may be right, or the request says what a loop is, it goes on."""
    params = BeamSearchParams(n=2, expand=1, separator=";", step_tokens=20)
    story = "".join(f" word{number}" for number in range(40)) + " 42"

    def script(said: str, position: int) -> str:
        loops = said.startswith(" a") or (not said and position == 0)
        return " a" * (200 - said.count("a")) if loops else story[len(said) :]

    result = await BeamSearch(params, context)(question(**fields), grow(script), ignore_events)
    by_id = {node.id: node for node in result.nodes}

    def num_tokens(node: TraceNode) -> int:
        return node.tokens + (0 if node.parent is None else num_tokens(by_id[node.parent]))

    longest = max((node for node in result.nodes if node.text.startswith(" a")), key=num_tokens)
    assert (num_tokens(longest), longest.finish_reason) == ((80, "repetition") if ends else (200, "stop"))
    assert any(one.candidate.text == story for one in result.candidates)
