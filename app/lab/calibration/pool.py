"""The file of a pool (`app.routing.pool_file`), which `ponder calibrate` fills.

A line is written when its question is done, so a kill loses only the questions in progress.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from adapters.disk import append_line, whole_lines
from app.routing.pool_file import PoolEntry, PoolSettings

V = TypeVar("V", bound=BaseModel)


class PoolRefused(Exception):
    """A pool, or its questions, cannot be used. The message is for the operator."""


class Pool:
    """The file of a pool, to which entries are added.

    Raises `PoolRefused` where the file is something else, or was sampled with other settings.

    Attributes:
        entries: by the key of their question.

    """

    def __init__(self, path: Path, settings: PoolSettings) -> None:
        self._path = path
        self.settings = settings
        self.entries: dict[str, PoolEntry] = {}
        if path.exists() and path.stat().st_size:
            stored, entries = read_pool(path)
            if stored != settings:
                raise PoolRefused(
                    f"{path} was sampled with other settings ({_difference(stored, settings)}): choose another --out"
                )
            self.entries = {entry.key: entry for entry in entries}
        else:
            append_line(path, settings.model_dump_json())

    def add(self, entry: PoolEntry) -> None:
        """Write an entry to the file at once."""
        self.entries[entry.key] = entry
        append_line(self._path, entry.model_dump_json())


def read_pool(path: Path) -> tuple[PoolSettings, Sequence[PoolEntry]]:
    """Return the settings of a pool and its entries; raises `PoolRefused` where the file is no pool."""
    if not (lines := whole_lines(path)):
        raise PoolRefused(f"{path} is not there, or is empty: `ponder calibrate` fills it")
    first, *lines = lines
    return _parse(path, PoolSettings, first), [_parse(path, PoolEntry, line) for line in lines]


def read_lines(path: Path, line_type: type[V]) -> list[V]:
    """Return the lines of another file beside a pool; raises `PoolRefused` for a line of another type."""
    return [_parse(path, line_type, line) for line in whole_lines(path)]


def _parse(path: Path, line_type: type[V], line: bytes) -> V:
    try:
        return line_type.model_validate_json(line)
    except ValidationError as error:
        raise PoolRefused(f"{path} has a line that this version of ponder cannot read as part of a pool: {error}") from error


def _difference(stored: PoolSettings, wanted: PoolSettings) -> str:
    before, now = stored.model_dump(), wanted.model_dump()
    return ", ".join(
        f"{name}: {json.dumps(before[name])}, not {json.dumps(now[name])}" for name in now if before[name] != now[name]
    )
