"""A pool: answers to questions, drawn once, from which every sampling strategy can be replayed. JSON lines, written one by one.

The first line says how they were drawn; each other one is a question. A kill loses the questions under way and nothing else.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from adapters.disk import append_line, whole_lines
from app.engine.architecture import Architecture

VERSION = 3
"""Of the format; raised when its meaning changes."""

DECIMALS = 4
"""Of log-probabilities and scores in the file."""


V = TypeVar("V", bound=BaseModel)


class PoolRefused(Exception):
    """What a pool cannot be used for, in words for the operator."""


class Value(BaseModel):
    """A line of a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class How(Value):
    """Everything but the question that decides what was drawn.

    Attributes:
        model: what answered, `adapter` the hash of its adapter's version (None: none).
        architecture: fields of `Architecture`, with the adapter's parameters.
        samples: of each question, at `temperature`; beside them one greedy answer.
        mended: of these, how many (after the greedy one) are gone on with where a line is false, `attempts` in all at most.
        verifier: hash of the adapter that scored the samples; None: nobody did.

    """

    version: int = VERSION
    model: str
    adapter: str | None
    architecture: dict[str, Any]
    samples: int
    temperature: float
    max_tokens: int
    mended: int = 0
    attempts: int = 1
    verifier: str | None = None

    @property
    def flops(self) -> Architecture:
        """The arithmetic of what answered."""
        return Architecture(**self.architecture)


class Piece(Value):
    """What one branch generated.

    Attributes:
        lengths: in characters, of its tokens in their order; `logprobs` likewise.
        cached: tokens of its prefix that the cache had.
        is_right: the answer that ends with it.

    """

    text: str
    token_ids: tuple[int, ...]
    lengths: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: str
    stop_reason: int | str | None
    cached: int
    is_right: bool


class Mended(Piece):
    """What was written after `said` tokens: of the attempt before it, and of the calculator. To its end, even where a line is false again.

    Attributes:
        given: what the calculator wrote, `given_ids` its tokens.

    """

    said: int
    given: str = ""
    given_ids: tuple[int, ...] = ()


class Sample(Piece):
    """One answer.

    Attributes:
        score: the verifier's, in [0, 1]; None: nobody was asked.
        later: attempts to mend it, each of which goes on from the one before.

    """

    score: float | None = None
    later: tuple[Mended, ...] = ()


class Drawn(Value):
    """A question with its answers.

    Attributes:
        key: of the question; `kind` of its answer.
        task: what it is one of, and `bin` how hard the data call it, as far as they say.
        prefix: token ids of the rendered prompt.
        greedy: the answer at temperature 0.
        verify_flops: of the verifier for all samples together.

    """

    key: str
    question: str
    kind: str
    task: str
    bin: int
    prefix: tuple[int, ...]
    greedy: Sample
    samples: tuple[Sample, ...]
    verify_flops: int = 0


class Pool:
    """The file of a pool.

    Raises `PoolRefused` when it holds something else, or was drawn in another way than `how`.

    Attributes:
        drawn: what is there, by key.

    """

    def __init__(self, path: Path, how: How) -> None:
        self._path = path
        self.how = how
        self.drawn: dict[str, Drawn] = {}
        if path.exists() and path.stat().st_size:
            known, drawn = read_pool(path)
            if known != how:
                raise PoolRefused(f"{path} was drawn in another way ({_difference(known, how)}): choose another --out")
            self.drawn = {one.key: one for one in drawn}
        else:
            append_line(path, how.model_dump_json())

    def add(self, drawn: Drawn) -> None:
        """To the file, at once."""
        self.drawn[drawn.key] = drawn
        append_line(self._path, drawn.model_dump_json())


def read_pool(path: Path) -> tuple[How, Sequence[Drawn]]:
    """How a pool was drawn, and what. Raises `PoolRefused`."""
    first, *lines = whole_lines(path) or [b""]
    return _parsed(path, How, first), [_parsed(path, Drawn, line) for line in lines]


def lines_of(path: Path, what: type[V]) -> list[V]:
    """The values of another file of a pool. Raises `PoolRefused`."""
    return [_parsed(path, what, line) for line in whole_lines(path)]


def _parsed(path: Path, what: type[V], line: bytes) -> V:
    try:
        return what.model_validate_json(line)
    except ValidationError as error:
        raise PoolRefused(f"{path} is not of a pool of this version of ponder: {error}") from error


def _difference(known: How, wanted: How) -> str:
    before, now = known.model_dump(), wanted.model_dump()
    return ", ".join(
        f"{name}: {json.dumps(before[name])}, not {json.dumps(now[name])}" for name in now if before[name] != now[name]
    )
