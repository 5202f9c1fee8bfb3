"""How files get to the disk as a whole: flushed before they are renamed, and made in a folder that nobody else clears."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def flush(*paths: Path) -> None:
    """To disk: a power cut must not leave a complete name on incomplete files. Folders too, for the names in them."""
    for path in paths:
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """A file that is there with all of its text or not at all."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    flush(unfinished)
    unfinished.replace(path)
    flush(path.parent)


@contextmanager
def staging(incoming: Path) -> Iterator[Path]:
    """A folder of this process's own, gone at the end. Its lock tells other processes that somebody still works in it."""
    incoming.mkdir(parents=True, exist_ok=True)
    outer = Path(tempfile.mkdtemp(dir=incoming))
    descriptor = os.open(outer, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        inner = outer / "version"
        inner.mkdir()
        yield inner
    finally:
        shutil.rmtree(outer, ignore_errors=True)
        os.close(descriptor)


def clear(incoming: Path) -> None:
    """Remove the folders that killed processes left; those that somebody works in stay."""
    incoming.mkdir(parents=True, exist_ok=True)
    for leftover in incoming.iterdir():
        if leftover.is_dir() and not _is_held(leftover):
            shutil.rmtree(leftover, ignore_errors=True)


def _is_held(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file that is written line by line; one that a kill has cut is taken away, so that the next stands for itself."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return whole.splitlines()


def append_line(path: Path, line: str) -> None:
    """To the end of such a file, at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
