"""Finds out why vLLM ended: what its processes wrote down, and whether the kernel ended one of them for lack of memory."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.engine.free_memory import oom_kills
from app.engine.vllm.reasons import LOWER, reason
from app.engine.weights.conversions import ModelUnavailable
from app.engine.worker.failures import FailureFile, causes

DEATH_S = 60
"""A failure may be the cause of a death up to this many seconds later. The engine survived older ones, of an adapter for example."""


class PostMortem:
    """What the failures of one engine left behind. Make it before the engine's processes are started."""

    def __init__(self) -> None:
        """Begin to collect the failures of the processes that are started from now on."""
        self._failures = FailureFile()
        self._kills = oom_kills()

    @property
    def ran_out_of_memory(self) -> bool:
        """Whether the kernel ended a process for lack of memory since this was made: of the engine, or near it."""
        return oom_kills() > self._kills

    def of_start(self, error: Exception) -> str:
        """Return why a start failed. `error` is what vLLM raised in the end."""
        # The first failure is the cause. An exception that only says that another process failed is none.
        found = next((one for one in self._failures.read() if "root cause" not in one[0]), causes(error))
        return self._memory or reason(found)

    def of_death(self) -> str:
        """Return why an engine died after its start. Call it soon after the death."""
        found = [one for one in self._failures.read(DEATH_S) if "root cause" not in one[0]]
        told = self._memory or (reason(found[-1]) if found else "")
        return f"the engine process died: {told}" if told else "the engine process died"

    @property
    def _memory(self) -> str:
        return f"the kernel ended a process for lack of memory: {LOWER}" if self.ran_out_of_memory else ""


@contextmanager
def start_errors(model: str, post_mortem: PostMortem | None = None) -> Iterator[None]:
    """Turn every error of vLLM's start into `ModelUnavailable`, whose one line says what is wrong with the model or its options."""
    try:
        yield
    except ModelUnavailable:
        raise
    except Exception as error:
        why = post_mortem.of_start(error) if post_mortem else reason(causes(error))
        raise ModelUnavailable(f"{model}: {why}") from error
