"""The classes that vLLM mixes into its workers: it takes one, so the parts are put together here."""

from app.engine.worker.cache_scrub import CacheScrub
from app.engine.worker.grouped_lora import GroupedLora
from app.engine.worker.parameters import ParameterCount
from app.engine.worker.peak import PeakMeasure
from app.engine.worker.prompt_slices import PromptSlices
from app.engine.worker.seed_guard import SeedGuard


class CpuWorker(SeedGuard, PromptSlices, GroupedLora, CacheScrub, PeakMeasure, ParameterCount):
    """For the CPU back end, with all repairs."""


class GpuWorker(PeakMeasure, ParameterCount):
    """For GPUs, where vLLM needs no repairs."""
