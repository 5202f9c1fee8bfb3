"""What is added to vLLM's worker: vLLM takes one class."""

from app.engine.cache_scrub import CacheScrub
from app.engine.grouped_lora import GroupedLora
from app.engine.peak import PeakMeasure
from app.engine.seed_guard import SeedGuard


class CpuWorker(SeedGuard, GroupedLora, CacheScrub, PeakMeasure):
    """On CPU; see the four."""


class GpuWorker(PeakMeasure):
    """On a GPU, where vLLM needs no help."""
