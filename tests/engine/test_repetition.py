"""When a branch is a loop: the scripted engine ends it where vLLM would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm import SamplingParams
from vllm.sampling_params import RepetitionDetectionParams
from vllm.v1.core.sched.utils import check_sequence_repetition

from app.engine.base import Branch, Prompt, Repetition
from app.engine.scripted import ScriptedEngine
from app.engine.simulated import loop_end
from app.engine.vllm.sampling import sampling_of

pytestmark = pytest.mark.anyio

SMALL = Repetition(max_pattern_size=3, min_pattern_size=1, min_count=3)


@given(
    words=st.lists(st.sampled_from("ab"), max_size=30),
    sizes=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    count=st.integers(2, 4),
)
def test_a_loop_begins_where_vllm_says(words: list[str], sizes: tuple[int, int], count: int) -> None:
    """At the first token behind which vLLM's own check holds."""
    low, high = sorted(sizes)
    params = RepetitionDetectionParams(max_pattern_size=high, min_pattern_size=low, min_count=count)
    ends = (end for end in range(1, len(words) + 1) if check_sequence_repetition(words[:end], params))
    assert loop_end(words, Repetition(high, low, count)) == next(ends, None)


@pytest.mark.parametrize("size", range(1, 33))
def test_by_default_a_loop_has_at_least_64_tokens(size: int) -> None:
    """Whatever the length of a round; a pattern that stands there three times is none yet."""
    round_ = [f"w{number}" for number in range(size)]
    end = loop_end(round_ * 200, Repetition())
    assert end is not None
    assert 64 <= end <= 4 * max(size, 31)
    assert loop_end(round_ * 3, Repetition()) is None
    assert loop_end([f"w{number}" for number in range(500)], Repetition()) is None


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_the_scripted_engine_ends_a_loop(*, is_streamed: bool) -> None:
    """With a finish reason of its own, the reason of vLLM, and the tokens until there."""
    engine = ScriptedEngine("I" + " see" * 50)
    prompt = await engine.render_chat({"messages": [{"role": "user", "content": "?"}]})
    branch = Branch(id="a", prompt=prompt, prefix=prompt.token_ids, max_tokens=40, repetition=SMALL, is_streamed=is_streamed)
    outputs = [output async for output in engine.generate(branch)]
    assert "".join(output.text for output in outputs) == "I see see see"
    assert (outputs[-1].finish_reason, outputs[-1].stop_reason) == ("repetition", "repetition_detected")


def test_vllm_is_told_what_a_loop_is() -> None:
    """Only where the request does not say it: `max_pattern_size` 0 switches it off."""
    plain = Prompt((1, 2), 64, SamplingParams())
    own = Prompt((1, 2), 64, SamplingParams(repetition_detection=RepetitionDetectionParams()))

    def of(prompt: Prompt, repetition: Repetition | None) -> RepetitionDetectionParams | None:
        branch = Branch(id="a", prompt=prompt, prefix=(1, 2), max_tokens=64, repetition=repetition)
        return sampling_of(branch).repetition_detection

    assert of(plain, None) is None
    assert of(plain, SMALL) == RepetitionDetectionParams(max_pattern_size=3, min_pattern_size=1, min_count=3)
    assert of(own, SMALL) == RepetitionDetectionParams()
