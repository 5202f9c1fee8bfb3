"""The terminal and the arithmetic that a training run is started with."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from adapters.training.run import Surroundings
from adapters.training.trainers import Progress as Step
from adapters.training.work import Work
from app.engine import hardware
from app.engine.architecture import Architecture

LINE_EVERY_S = 30


def costs_of(config: Mapping[str, Any], lora_parameters: int | None, recomputes: bool) -> Callable[[Work], int]:  # noqa: FBT001 - a port's shape
    """FLOPs of a batch, by the arithmetic that the server charges with."""
    architecture = Architecture.from_config(config).with_lora(lora_parameters or 0)

    def cost(work: Work) -> int:
        return architecture.training_pass(
            work.tokens,
            work.pairs,
            work.rows,
            rows_again=work.rows_again,
            learns=work.learns,
            trains_all=lora_parameters is None,
            recomputes=recomputes,
        )

    return cost


def say(line: str) -> None:
    """A line for whoever watches; results go to standard output."""
    _console().print(line, soft_wrap=True, markup=False, highlight=False)


def machine() -> str:
    """The processor that is computed on, as a run card tells it."""
    if hardware.has_nvidia_gpu():
        return "NVIDIA GPU"
    return f"{hardware.plan_cpu().dtype} on CPU, {hardware.num_processors()} processors"


@contextmanager
def surroundings(what: str) -> Iterator[Surroundings]:
    """For a run: the arithmetic, and a terminal that shows its steps."""
    with _bar(what) as bar:

        def report(step: Step) -> None:
            bar(step.step, step.num_steps, _detail(step.loss, step.score))

        yield Surroundings(costs_of=costs_of, report=report, say=say, machine=machine())


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """For work that is counted: `report(done, all)`."""
    with _bar(what) as bar:
        yield lambda done, of: bar(done, of, "")


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar with the time left on a terminal, a line every half minute elsewhere."""
    console = _console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[detail]}"),
               TimeElapsedColumn(), TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None, detail="")
        lines = _Lines(what, console)

        def show(done: int, of: int, detail: str) -> None:
            bar.update(task, total=of, completed=done, detail=detail)
            if not console.is_terminal:
                lines.show(done, of, detail)

        yield show


class _Lines:
    """Progress where there is no terminal."""

    def __init__(self, what: str, console: Console) -> None:
        self._what = what
        self._console = console
        self._told = time.monotonic()
        self._first: tuple[int, float] | None = None

    def show(self, done: int, of: int, detail: str) -> None:
        now = time.monotonic()
        self._first = self._first or (done, now)
        if now - self._told < LINE_EVERY_S and done != of:
            return
        self._told = now
        steps, seconds = done - self._first[0], now - self._first[1]
        left = f", {seconds / steps * (of - done) / 60:.0f} minutes left" if steps else ""
        detail = f", {detail}" if detail else ""
        self._console.print(f"{self._what}: {done} of {of}{detail}{left}", soft_wrap=True, highlight=False)


def _console() -> Console:
    return Console(stderr=True)


def _detail(loss: float | None, score: float | None) -> str:
    parts = [f"loss {loss:.3f}" if loss is not None else "", f"validation {score:.3f}" if score is not None else ""]
    return ", ".join(part for part in parts if part)
