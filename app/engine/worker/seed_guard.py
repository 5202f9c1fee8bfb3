"""Keeps requests with a seed from killing vLLM's CPU engine (vLLM 0.32).

vLLM may split a long prefill into chunks. For a chunk that is not the last, it samples a token all the same, discards it, and rewinds
the request's random generator with `Generator.set_offset`. Only CUDA generators have that: a CPU generator raises "CPU Generator does
not use offset" within the engine's step, which ends the engine for all requests.

Here the rows of unfinished chunks are sampled without their generators. Then there is nothing to rewind, and the sequence of random
numbers of the seed is as if the prefill had not been split.
"""

from typing import Any

import numpy as np


class SeedGuard:
    """Methods for vLLM's worker class."""

    model_runner: Any

    def ponder_guard_seeds(self) -> None:
        """Wrap the model runner's methods for sampling and bookkeeping. Call it once, before the first request."""
        runner = self.model_runner
        sample, bookkeep = runner._sample, runner._bookkeeping_sync
        held: dict[int, Any] = {}

        def sample_without_discarded(*args: Any, **kwargs: Any) -> Any:
            # The mask marks the rows whose sampled token will be discarded.
            generators = runner.input_batch.generators
            for row in np.flatnonzero(runner.discard_request_mask.np[: runner.input_batch.num_reqs]):
                if (generator := generators.pop(int(row), None)) is not None:
                    held[int(row)] = generator
            return sample(*args, **kwargs)

        def bookkeep_and_restore(*args: Any, **kwargs: Any) -> Any:
            try:
                return bookkeep(*args, **kwargs)
            finally:
                # The bookkeeping rewinds generators of discarded rows that it finds, so they come back only after it.
                runner.input_batch.generators.update(held)
                held.clear()

        runner._sample, runner._bookkeeping_sync = sample_without_discarded, bookkeep_and_restore
