"""Keeps log-probabilities of prompts from filling the memory, in vLLM's CPU back end (vLLM 0.32).

For a request with `prompt_logprobs`, vLLM's first model runner computes the scores of the whole vocabulary for all tokens of the prompt
that are in the step, in one piece, and copies them twice: gigabytes for a few thousand tokens, which the start has not set apart. The
second model runner, which GPUs use, computes 1024 tokens at a time.

Here vLLM's method is called for one slice of a prompt after another, as if the prefill had been split there. Its results are the same.
"""

from typing import Any

SLICE = 256
"""Tokens of a prompt whose scores are in memory at the same time: at 150,000 tokens of vocabulary, about 350 MB."""


class PromptSlices:
    """Methods for vLLM's worker class."""

    model_runner: Any

    def ponder_slice_prompts(self) -> None:
        """Wrap the model runner's method for log-probabilities of prompts. Call it once, before the first request."""
        runner = self.model_runner
        whole = runner._get_prompt_logprobs_dict

        def in_slices(hidden_states: Any, num_scheduled: dict[str, int]) -> dict[str, Any]:
            found: dict[str, Any] = {}
            for request_id in list(runner.num_prompt_logprobs):
                if (num_tokens := num_scheduled.get(request_id)) is None:
                    continue
                request = runner.requests[request_id]
                computed = request.num_computed_tokens
                try:
                    for start in range(0, num_tokens, SLICE):
                        # The method adds the request's place in the step to the row, so the rows before the slice are left out.
                        request.num_computed_tokens = computed + start
                        size = min(SLICE, num_tokens - start)
                        found.update(whole(hidden_states[start:], {request_id: size}))
                finally:
                    request.num_computed_tokens = computed
            return found

        runner._get_prompt_logprobs_dict = in_slices
