"""Searches whose samples depend on one another. No pool can replay them, so each named search is run once per question."""

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
from app.lab.calibration.performance import PlanPerformance
from app.lab.calibration.pool import PoolRefused, read_lines
from app.lab.calibration.sampling import PoolSampler
from app.routing.pool_file import Value
from strategies.registry import STRATEGIES


class SearchRun(Value):
    """A line of the file: the outcome of one search on one question.

    Attributes:
        key: the key of the question.
        search: as it was named, `strategy name=value …`.
        branches: the number of branches that it drew.

    """

    key: str
    search: str
    is_right: bool
    flops: int
    branches: int


def parse_search(search: str) -> tuple[str, dict[str, Any]]:
    """Return strategy and parameters of, for instance, `beam_search n=4 verifier=equations`. Values are JSON or plain words.

    Raises `PoolRefused` for a part that is no name=value.
    """
    name, *pairs = search.split()
    params: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise PoolRefused(f"`{pair}` of `{search}` is no name=value")
        try:
            params[key] = json.loads(value)
        except ValueError:
            params[key] = value
    return name, params


def check_search(search: str) -> None:
    """Raise `PoolRefused` for a search that no request could name."""
    name, params = parse_search(search)
    try:
        STRATEGIES[name].Params.model_validate(params)
    except (KeyError, ValidationError) as error:
        raise PoolRefused(f"`{search}` is not a valid search: {error}") from error


class SearchRuns:
    """The file of search runs. Each run is written as soon as it is complete."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._runs = {(one.key, one.search): one for one in read_lines(path, SearchRun)}

    async def run(
        self,
        sampler: PoolSampler,
        questions: Sequence[DatasetQuestion],
        searches: Sequence[str],
        *,
        at_once: int,
        report: Callable[[int, int], None],
    ) -> None:
        """Run all searches on all questions, except the runs that are already in the file.

        Args:
            sampler: runs strategies.
            questions: with known answers.
            searches: as they are named.
            at_once: the number of concurrent runs.
            report: is called with the number of finished runs and the number of all runs.

        """
        pairs = [(question, search) for search in searches for question in questions]

        async def run(pair: tuple[DatasetQuestion, str]) -> None:
            question, search = pair
            outcome = await sampler.search(question, *parse_search(search))
            line = SearchRun(key=question.key, search=search, **asdict(outcome))
            append_line(self._path, line.model_dump_json())
            self._runs[question.key, search] = line
            report(sum((question.key, search) in self._runs for question, search in pairs), len(pairs))

        await for_each([pair for pair in pairs if (pair[0].key, pair[1]) not in self._runs], run, at_once)

    @property
    def names(self) -> list[str]:
        """All searches that were run on any question."""
        return list(dict.fromkeys(search for _, search in self._runs))

    def performances(self, keys: Sequence[str], searches: Sequence[str]) -> list[PlanPerformance]:
        """Return the performance of those searches that were run on all of the questions."""
        found = []
        for search in searches:
            runs = [run for key in keys if (run := self._runs.get((key, search))) is not None]
            if len(runs) == len(keys):
                found.append(
                    PlanPerformance(
                        search,
                        np.array([float(one.is_right) for one in runs]),
                        np.array([float(one.flops) for one in runs]),
                        np.array([float(one.branches) for one in runs]),
                    )
                )
        return found
