"""Writes files so that each is on disk whole or not at all.

A file is made in a folder that no other process clears, flushed, and then renamed.
"""

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def flush(*paths: Path) -> None:
    """Flush files and folders to disk, so that a power cut cannot leave an incomplete file under its final name.

    A folder is flushed for the names in it. Paths that do not exist are ignored.
    """
    for path in paths:
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there with all of its text or not at all."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")  # another process may write the same file
    unfinished.write_text(text, encoding="utf-8")
    flush(unfinished)
    unfinished.replace(path)
    flush(path.parent)


@contextmanager
def staging(incoming: Path) -> Iterator[Path]:
    """Make a folder for this process, which is removed at the end.

    Its lock tells other processes that it is still used.
    """
    incoming.mkdir(parents=True, exist_ok=True)
    # The lock is on the outer folder, since the inner one is renamed away while it is held.
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


def put_in_place(folder: Path, place: Path) -> None:
    """Rename a folder to its place, or leave it where another thread or process has been faster with the same content."""
    try:
        folder.rename(place)
    except OSError:
        if not place.is_dir():
            raise


def clear(incoming: Path) -> None:
    """Remove the folders that killed processes left; those that a running process uses stay."""
    incoming.mkdir(parents=True, exist_ok=True)
    for leftover in incoming.iterdir():
        if leftover.is_dir() and not _is_locked(leftover):
            shutil.rmtree(leftover, ignore_errors=True)


def _is_locked(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system releases a killed process's lock
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def whole_lines(path: Path) -> list[bytes]:
    """Return the lines of a file that is written line by line, none when there is no file.

    A last line that a kill has cut off is removed from the file, so that the next one does not continue it.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return whole.splitlines()


def append_line(path: Path, line: str) -> None:
    """Append a line to such a file at once; folder and file are made when they do not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
