"""What is added to vLLM's worker: vLLM takes one class."""

from app.engine.worker.cache_scrub import CacheScrub
from app.engine.worker.grouped_lora import GroupedLora
from app.engine.worker.peak import PeakMeasure
from app.engine.worker.seed_guard import SeedGuard


class CpuWorker(SeedGuard, GroupedLora, CacheScrub, PeakMeasure):
    """On CPU; see the four."""


class GpuWorker(PeakMeasure):
    """On a GPU, where vLLM needs no help."""
