"""A pool: answers to questions, drawn once, from which every sampling strategy can be replayed. JSON lines, written one by one.

The first line says how they were drawn; each other one is a question. A kill loses the questions under way and nothing else.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from app.metering.flops import Architecture

VERSION = 1
"""Of the format; raised when its meaning changes."""

DECIMALS = 4
"""Of log-probabilities and scores in the file."""


class PoolRefused(Exception):
    """What a pool cannot be used for, in words for the operator."""


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class How(_Value):
    """Everything but the question that decides what was drawn.

    Attributes:
        model: what answered, `adapter` the hash of its adapter's weights (None: none).
        architecture: fields of `Architecture`, with the adapter's parameters.
        samples: of each question, at `temperature`; beside them one greedy answer.
        verifier: hash of the adapter that scored the samples; None: nobody did.

    """

    version: int = VERSION
    model: str
    adapter: str | None
    architecture: dict[str, Any]
    samples: int
    temperature: float
    max_tokens: int
    verifier: str | None = None

    @property
    def flops(self) -> Architecture:
        """The arithmetic of what answered."""
        return Architecture(**self.architecture)


class Sample(_Value):
    """One answer.

    Attributes:
        logprobs: of its tokens, in their order.
        cached: tokens of the prompt that the prefix cache had.
        score: the verifier's, in [0, 1]; None: nobody was asked.

    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: str
    stop_reason: int | str | None
    cached: int
    is_right: bool
    score: float | None = None


class Drawn(_Value):
    """A question with its answers.

    Attributes:
        key: of the question; `kind` of its answer.
        task: what it is one of, and `bin` how hard the data call it, as far as they say.
        prefix: token ids of the rendered prompt.
        greedy: the answer at temperature 0.
        verify_tokens: read and written by the verifier for all samples together, and their FLOPs.

    """

    key: str
    question: str
    kind: str
    task: str
    bin: int
    prefix: tuple[int, ...]
    greedy: Sample
    samples: tuple[Sample, ...]
    verify_tokens: int = 0
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
            self._cut_torn_line()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._append(how)

    def add(self, drawn: Drawn) -> None:
        """To the file, at once."""
        self.drawn[drawn.key] = drawn
        self._append(drawn)

    def _append(self, value: BaseModel) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(value.model_dump_json() + "\n")

    def _cut_torn_line(self) -> None:
        content = self._path.read_bytes()
        if not content.endswith(b"\n"):
            with self._path.open("rb+") as file:
                file.truncate(content.rfind(b"\n") + 1)


def read_pool(path: Path) -> tuple[How, Sequence[Drawn]]:
    """How a pool was drawn, and what; a last line that was cut by a kill is passed over. Raises `PoolRefused`."""
    *lines, _torn = path.read_text(encoding="utf-8").split("\n")
    try:
        return How.model_validate_json(lines[0]), [Drawn.model_validate_json(line) for line in lines[1:]]
    except (IndexError, ValidationError) as error:
        raise PoolRefused(f"{path} is no pool of this version of ponder: {error}") from error


def _difference(known: How, wanted: How) -> str:
    before, now = known.model_dump(), wanted.model_dump()
    return ", ".join(
        f"{name}: {json.dumps(before[name])}, not {json.dumps(now[name])}" for name in now if before[name] != now[name]
    )
