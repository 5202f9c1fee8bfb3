"""Keeps a seeded request from killing vLLM's CPU engine. Runs in the engine's worker process and imports nothing of vLLM.

When a prefill is split, vLLM samples a token for the unfinished chunk, throws it away, and rewinds the request's generator by
`Generator.set_offset`, which exists on CUDA only: on CPU it raises inside the engine's step and ends the engine for everybody.
Here such rows are sampled without their generator, so that there is nothing to rewind and the seed's sequence stays untouched.
Installed through vLLM's own `worker_extension_cls` and one `collective_rpc` at start.
"""

from typing import Any

import numpy as np


class SeedGuard:
    """Methods that vLLM mixes into its worker class."""

    model_runner: Any

    def ponder_guard_seeds(self) -> None:
        """Wrap the model runner's sampling and bookkeeping; call once."""
        runner = self.model_runner
        sample, bookkeep = runner._sample, runner._bookkeeping_sync
        held: dict[int, Any] = {}

        def sample_without_discarded(*args: Any, **kwargs: Any) -> Any:
            generators = runner.input_batch.generators
            for row in np.flatnonzero(runner.discard_request_mask.np[: runner.input_batch.num_reqs]):
                if (generator := generators.pop(int(row), None)) is not None:
                    held[int(row)] = generator
            return sample(*args, **kwargs)

        def bookkeep_and_restore(*args: Any, **kwargs: Any) -> Any:
            try:
                return bookkeep(*args, **kwargs)
            finally:
                runner.input_batch.generators.update(held)
                held.clear()

        runner._sample, runner._bookkeeping_sync = sample_without_discarded, bookkeep_and_restore
