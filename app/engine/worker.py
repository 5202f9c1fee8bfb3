"""What is added to vLLM's worker on CPU: vLLM takes one class."""

from app.engine.cache_scrub import CacheScrub
from app.engine.grouped_lora import GroupedLora
from app.engine.seed_guard import SeedGuard


class CpuWorker(SeedGuard, GroupedLora, CacheScrub):
    """See the three."""
