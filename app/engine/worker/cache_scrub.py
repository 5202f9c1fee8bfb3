"""Removes NaNs and infinities from vLLM's KV cache (CPU back end, vLLM 0.32).

vLLM does not clear a block of the cache when it passes from one request to the next. Its CPU attention reads whole blocks, and
multiplies what lies behind a request's last token by zero. That is not zero for a NaN. So an adapter that computed NaNs once, for a
single token, would ruin the answers of the requests that get its blocks next, also those to the base model.
"""

from typing import Any

import torch


class CacheScrub:
    """Methods for vLLM's worker class."""

    model_runner: Any

    def ponder_scrub_cache(self) -> None:
        """Set every NaN and infinity in the KV cache to zero. It takes about a second for a few gigabytes, between two steps."""
        for cache in self.model_runner.kv_caches:
            torch.nan_to_num_(cache, nan=0.0, posinf=0.0, neginf=0.0)
