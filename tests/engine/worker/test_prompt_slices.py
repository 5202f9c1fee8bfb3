"""Log-probabilities of prompts in slices: what vLLM's method is called with. `tests/vllm/test_logprobs.py` compares the results."""

from types import SimpleNamespace
from typing import Any

from app.engine.worker.prompt_slices import SLICE, PromptSlices


def test_each_prompt_is_computed_slice_by_slice() -> None:
    """From its own place in the step on; requests that are not in the step, and the count of computed tokens, stay as they are."""
    rows = list(range(1000))
    place = {"long": 10, "short": 700}
    seen: list[tuple[str, int, int, int]] = []

    def whole(hidden_states: list[int], num_scheduled: dict[str, int]) -> dict[str, Any]:
        [(request, size)] = num_scheduled.items()
        seen.append((request, hidden_states[place[request]], runner.requests[request].num_computed_tokens, size))
        if request == "short":  # as vLLM does for a prompt that has ended
            del runner.num_prompt_logprobs[request]
        return {request: "logprobs"} if request == "short" else {}

    runner = SimpleNamespace(
        num_prompt_logprobs={"long": 1, "elsewhere": 1, "short": 0},
        requests={"long": SimpleNamespace(num_computed_tokens=5), "short": SimpleNamespace(num_computed_tokens=0)},
        _get_prompt_logprobs_dict=whole,
    )
    worker = PromptSlices()
    worker.model_runner = runner
    worker.ponder_slice_prompts()
    found = runner._get_prompt_logprobs_dict(rows, {"long": 2 * SLICE + 7, "short": 3, "plain": 1})
    assert found == {"short": "logprobs"}
    assert seen == [
        ("long", 10, 5, SLICE),
        ("long", 10 + SLICE, 5 + SLICE, SLICE),
        ("long", 10 + 2 * SLICE, 5 + 2 * SLICE, 7),
        ("short", 700, 0, 3),
    ]
    assert runner.requests["long"].num_computed_tokens == 5
