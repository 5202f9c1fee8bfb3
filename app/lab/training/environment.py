"""Implements the ports of `adapters.training`: the FLOPs arithmetic, servers for teacher models, and progress on the terminal."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from adapters.training.ports import BatchPass, ModelAddress, Progress, SamplingEnvironment, TrainingEnvironment
from app.engine import hardware
from app.engine.architecture import Architecture
from app.lab.progress import counting, progress_bar, say
from app.lab.server import BASE, serving

ADAPTER = "student"
"""The name under which a teacher's adapter is served."""


@contextmanager
def training_environment(title: str) -> Iterator[TrainingEnvironment]:
    """Give a run the arithmetic of FLOPs, and a progress bar that shows its steps."""
    with progress_bar(title) as show:

        def report(progress: Progress) -> None:
            show(progress.step, progress.num_steps, _losses(progress.loss, progress.validation_loss))

        yield TrainingEnvironment(flops_counter=flops_counter, report=report, say=say, machine=machine())


def sampling_environment() -> SamplingEnvironment:
    """Give the collection of answers a server for local teachers, and a progress bar."""
    return SamplingEnvironment(serve=serve_teacher, say=say, count=counting)


def serve_teacher(model: str, adapter: Path | None, log: Path) -> AbstractContextManager[ModelAddress]:
    """Serve a teacher on this machine, with its adapter if it has one; see `ServeModel`."""
    return serving(model, ADAPTER if adapter else BASE, log, {ADAPTER: adapter} if adapter else {})


def flops_counter(
    config: Mapping[str, Any],
    lora_parameters: int | None,
    recomputes: bool,  # noqa: FBT001 - the port's shape
) -> Callable[[BatchPass], int]:
    """Return a counter that uses the arithmetic by which the server charges; see `FlopsCounterFactory`."""
    architecture = Architecture.from_config(config).with_lora(lora_parameters or 0)

    def count(batch: BatchPass) -> int:
        return architecture.training_pass(
            batch.tokens,
            batch.attention_pairs,
            batch.logit_rows,
            rows_again=batch.recomputed_logit_rows,
            learns=batch.has_backward,
            trains_all=lora_parameters is None,
            recomputes=recomputes,
        )

    return count


def machine() -> str:
    """Return a description of the GPU or the CPU that computes, for a run card."""
    if hardware.has_nvidia_gpu():
        return "NVIDIA GPU"
    return f"{hardware.plan_cpu().dtype} on CPU, {hardware.num_processors()} processors"


def _losses(loss: float | None, validation_loss: float | None) -> str:
    parts = [
        f"loss {loss:.3f}" if loss is not None else "",
        f"validation {validation_loss:.3f}" if validation_loss is not None else "",
    ]
    return ", ".join(part for part in parts if part)
