"""The files of the questions that a server has asked again: a pool (`app.routing.pool_file`) of each model and version of an adapter."""

import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from adapters.digest import digest
from adapters.disk import append_line, whole_lines
from adapters.version import AdapterVersion
from app.engine.base import ModelCard
from app.routing.pool_file import POOL, PoolEntry, PoolSettings
from app.routing.pooled_answers import FIRST_TOKENS

NUM_SAMPLES = 7
"""Sampled answers to each question, besides a greedy one: as many as `ponder calibrate --quick` draws. All of them backtrack."""

ATTEMPTS = 3
"""How often each answer is begun or continued, at most: the default of `ponder calibrate`."""

TEMPERATURE = 0.7
"""Their temperature: the default of `ponder calibrate`."""

MAX_BYTES = 256 * 2**20
"""The largest size of all files together. Clients fill them, so they must not fill the disk. 20,000 questions with short answers fit."""


class _Key(BaseModel):
    model_config = ConfigDict(extra="ignore")

    key: str


class LivePool:
    """One of the files. Its methods block, and run one at a time: first `why_not`, then `add`.

    Args:
        path: of the file, in a folder of its own.
        settings: of the sampling.

    Attributes:
        settings: as they were given.

    """

    def __init__(self, path: Path, settings: PoolSettings) -> None:
        self.path = path
        self.settings = settings
        self._keys: set[str] | None = None

    def why_not(self, key: str) -> Literal["known", "full"] | None:
        """Return why the question with this key is not to be asked again; None where it is, and the file can be written.

        Raises `OSError` where it cannot, and `ValueError` where it is something else.
        """
        if self._keys is None:
            self._keys = self._open()
        if key in self._keys:
            return "known"
        files = self.path.parent.parent.glob(f"*/{POOL}")
        return "full" if sum(one.stat().st_size for one in files) >= MAX_BYTES else None

    def _open(self) -> set[str]:
        # The file contains prompts, so that only its owner may read it.
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.touch(mode=0o600)
        if not (lines := whole_lines(self.path)):
            append_line(self.path, self.settings.model_dump_json())
            return set()
        first, *entries = lines
        if PoolSettings.model_validate_json(first) != self.settings:
            message = f"{self.path} is not the pool that belongs there"
            raise ValueError(message)
        return {_Key.model_validate_json(line).key for line in entries}

    def add(self, entry: PoolEntry) -> int:
        """Append a question, and return the bytes that it takes."""
        line = entry.model_dump_json()
        keys, self._keys = self._keys or set(), None  # where a full disk cuts the line, the file is opened again, and mended
        append_line(self.path, line)
        keys.add(entry.key)
        self._keys = keys
        return len(line)


class LivePools:
    """The files of one base model and its adapters.

    Args:
        folder: where each has a folder, which `ponder calibrate --live` takes.
        card: of the engine.
        base: the base model's own name, as policies name it.
        max_tokens: the most of an answer.

    """

    def __init__(self, folder: Path, card: ModelCard, base: str, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self._folder = folder
        self._card = card
        self._base = base
        self._pools: dict[str, LivePool] = {}

    def of(self, version: AdapterVersion | None) -> LivePool:
        """Return the file of a version of an adapter, or of the base model for None. What is drawn in another way has another file."""
        settings = PoolSettings(
            model=self._base,
            adapter=None if version is None else version.version,
            architecture=self._card.architecture_with(version).to_dict(),
            samples=NUM_SAMPLES,
            temperature=TEMPERATURE,
            max_tokens=self.max_tokens,
            backtracked=NUM_SAMPLES,
            attempts=ATTEMPTS,
            is_labelled=False,
            first_tokens=FIRST_TOKENS,
        )
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", self._card.name if version is None else version.name)[:64]
        folder = f"{name}-{digest(settings.model_dump(mode='json'))}"
        return self._pools.get(folder) or self._pools.setdefault(folder, LivePool(self._folder / folder / POOL, settings))
