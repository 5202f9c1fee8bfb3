"""Searches whose samples depend on one another, so that no pool can replay them: run at the budgets that are named, once per question."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from adapters.concurrency import for_each
from adapters.disk import append_line
from adapters.training.data import DatasetQuestion
from app.lab.calibration.drawing import Drawer
from app.lab.calibration.pool import PoolRefused, Value, lines_of
from app.lab.calibration.summary import Worth
from strategies.registry import STRATEGIES


class Run(Value):
    """A line of the file: a search as it was named, `strategy name=value …`, on a question."""

    key: str
    search: str
    is_right: bool
    flops: int
    branches: int


def parse(search: str) -> tuple[str, dict[str, Any]]:
    """Strategy and parameters of `beam_search n=4 verifier=equations`; values are JSON, or words."""
    name, *given = search.split()
    params: dict[str, Any] = {}
    for one in given:
        key, is_there, value = one.partition("=")
        if not is_there:
            raise PoolRefused(f"`{one}` of `{search}` is no name=value")
        try:
            params[key] = json.loads(value)
        except ValueError:
            params[key] = value
    return name, params


def check_search(search: str) -> None:
    """Raise `PoolRefused` for one that no request could name."""
    name, params = parse(search)
    try:
        STRATEGIES[name].Params.model_validate(params)
    except (KeyError, ValidationError) as error:
        raise PoolRefused(f"`{search}` is no search: {error}") from error


class Searches:
    """The file of them, written one by one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = {(one.key, one.search): one for one in lines_of(path, Run)}

    async def run(
        self,
        drawer: Drawer,
        questions: Sequence[DatasetQuestion],
        searches: Sequence[str],
        *,
        at_once: int,
        report: Callable[[int, int], None],
    ) -> None:
        """All that are not known yet, so many at once."""
        wanted = [(question, search) for search in searches for question in questions]

        async def run(one: tuple[DatasetQuestion, str]) -> None:
            question, search = one
            brought = await drawer.search(question, *parse(search))
            line = Run(key=question.key, search=search, **asdict(brought))
            append_line(self._path, line.model_dump_json())
            self._known[question.key, search] = line
            report(sum((question.key, search) in self._known for question, search in wanted), len(wanted))

        await for_each([one for one in wanted if (one[0].key, one[1]) not in self._known], run, at_once)

    @property
    def names(self) -> list[str]:
        """All that were run."""
        return list(dict.fromkeys(search for _, search in self._known))

    def worths(self, keys: Sequence[str], searches: Sequence[str]) -> list[Worth]:
        """Those that were run on all of the questions."""
        found = []
        for search in searches:
            each = [self._known.get((key, search)) for key in keys]
            if all(each):
                some = [one for one in each if one is not None]
                found.append(
                    Worth(
                        search,
                        np.array([float(one.is_right) for one in some]),
                        np.array([float(one.flops) for one in some]),
                        np.array([float(one.branches) for one in some]),
                    )
                )
        return found
