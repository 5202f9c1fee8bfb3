"""vLLM's sampling parameters: of a prompt, and of one branch of it."""

import asyncio
import copy
from typing import Any

from vllm import SamplingParams
from vllm.sampling_params import RepetitionDetectionParams, RequestOutputKind

from app.engine.base import Branch
from app.engine.vllm.render_only import Renders


class CheckedSampling(SamplingParams):
    """Sampling parameters whose grammar was checked before.

    vLLM checks the parameters of each request on the event loop. All branches of a prompt have the same grammar, and it may take vLLM
    tens of milliseconds.
    """

    def verify(self, model_config: Any, speculative_config: Any, structured_outputs_config: Any, tokenizer: Any) -> None:  # noqa: ARG002
        """Check all but the grammar."""
        super().verify(model_config, speculative_config, None, tokenizer)


async def checked(sampling: SamplingParams, llm: Renders) -> SamplingParams:
    """Check the parameters of a prompt once for all of its branches, a grammar in a thread. Raises what vLLM raises."""
    if sampling.structured_outputs is not None:
        config = llm.vllm_config
        await asyncio.to_thread(
            sampling.verify,
            config.model_config,
            config.speculative_config,
            config.structured_outputs_config,
            llm.renderer.tokenizer,
        )
        sampling.__class__ = CheckedSampling
    return sampling


def sampling_of(branch: Branch) -> SamplingParams:
    """Return the prompt's sampling parameters with the branch's own values.

    The copy is shallow, since all branches of a prompt share the other values and only read them.
    """
    sampling = copy.copy(branch.prompt.sampling)
    # CUMULATIVE, vLLM's default, would send the whole text again with each token.
    sampling.output_kind = RequestOutputKind.DELTA if branch.is_streamed else RequestOutputKind.FINAL_ONLY
    sampling.max_tokens = branch.max_tokens
    # `min_tokens` is of the whole answer, and this branch may continue one.
    num_before = max(len(branch.prefix) - len(branch.prompt.token_ids), 0)
    sampling.min_tokens = min(max(sampling.min_tokens - num_before, 0), branch.max_tokens)
    if branch.separators:
        # vLLM takes a stop string out of the text. `outputs.with_separator` puts a separator back.
        sampling.stop = [*branch.prompt.stop, *branch.separators]
    sampling.logprobs = branch.num_logprobs
    if branch.seed is not None:
        sampling.seed = branch.seed
    if branch.temperature is not None:
        sampling.temperature = branch.temperature
        if branch.temperature == 0:
            # vLLM sets these for a request with temperature 0, but these parameters were made for another temperature.
            sampling.top_p, sampling.top_k, sampling.min_p = 1.0, 0, 0.0
    if branch.repetition is not None and sampling.repetition_detection is None:
        loop = branch.repetition
        sampling.repetition_detection = RepetitionDetectionParams(
            max_pattern_size=loop.max_pattern_size, min_pattern_size=loop.min_pattern_size, min_count=loop.min_count
        )
    if branch.options:
        # The options are read from the probabilities of one token, for which a grammar would mask them.
        sampling.logprobs, sampling.logprob_token_ids = None, list(branch.options)
        sampling.structured_outputs = None
    if branch.num_prompt_logprobs is not None:
        sampling.prompt_logprobs, sampling.structured_outputs = branch.num_prompt_logprobs, None
        # vLLM sets this for a new request. A cached prefix would not be computed, and have no log-probabilities.
        sampling.skip_reading_prefix_cache = True
    return sampling
