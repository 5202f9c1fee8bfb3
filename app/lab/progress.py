"""What the offline commands show on the terminal: lines and progress bars.

Lines and bars go to standard error. Results go to standard output.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY_S = 30
"""Seconds between two lines of progress where there is no terminal to draw a bar on."""


def say(line: str) -> None:
    """Print a line on standard error."""
    _console().print(line, soft_wrap=True, markup=False, highlight=False)


@contextmanager
def counting(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress while the context lasts. Its value takes (done, total)."""
    with progress_bar(title) as show:
        yield lambda done, total: show(done, total, "")


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar with the time left on a terminal, and a line every half minute elsewhere.

    Its value takes (done, total, detail).
    """
    console = _console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[detail]}"),
               TimeElapsedColumn(), TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None, detail="")
        lines = _ProgressLines(title, console)

        def show(done: int, total: int, detail: str) -> None:
            bar.update(task, total=total, completed=done, detail=detail)
            if not console.is_terminal:
                lines.show(done, total, detail)

        yield show


class _ProgressLines:
    """Shows progress as lines, for logs and pipes."""

    def __init__(self, title: str, console: Console) -> None:
        self._title = title
        self._console = console
        self._last_line = time.monotonic()
        self._first: tuple[int, float] | None = None

    def show(self, done: int, total: int, detail: str) -> None:
        now = time.monotonic()
        # The time left is estimated from the first count on: a resumed command starts at more than 0.
        self._first = self._first or (done, now)
        if now - self._last_line < LINE_EVERY_S and done != total:
            return
        self._last_line = now
        steps, seconds = done - self._first[0], now - self._first[1]
        left = f", {seconds / steps * (total - done) / 60:.0f} minutes left" if steps else ""
        detail = f", {detail}" if detail else ""
        self._console.print(f"{self._title}: {done} of {total}{detail}{left}", soft_wrap=True, highlight=False)


def _console() -> Console:
    return Console(stderr=True)
