"""Takes numbers that are none out of vLLM's KV cache. Runs in the engine's worker process and imports nothing of vLLM.

A cache block is not cleared when it passes from one request to another, and vLLM's CPU attention multiplies what lies behind a request's
last token by zero, which is not zero for a NaN: an adapter that computed NaNs once, for a single token, would ruin the answers of
whoever gets its blocks next, the base model's included.
"""

from typing import Any

import torch


class CacheScrub:
    """Methods that vLLM mixes into its worker class."""

    model_runner: Any

    def ponder_scrub_cache(self) -> None:
        """Set every NaN and infinity in the KV cache to zero; a second or so for gigabytes, between two steps."""
        for cache in self.model_runner.kv_caches:
            torch.nan_to_num_(cache, nan=0.0, posinf=0.0, neginf=0.0)
