"""Models that answer for training: one behind a URL, or one that is served here while it is asked. Started only when needed."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Self

import httpx

from adapters.training.sampling import A, Sampler, Samples, collect, read_samples
from app.settings import ClientSettings
from app.training.options import DistillOptions, SamplingOptions
from app.training.sampler import HttpSampler, only_model
from app.training.server import Address, serving
from app.training.surroundings import counting, say

SELF = "self"
"""The base as its own teacher."""

ADAPTER = "student"
"""The name under which an adapter that answers is served here."""


class Answering:
    """Answers of one model, kept beside the result of a run. Who answers is started at the first question that has no answer yet.

    Args:
        options: how it is asked, and where the result is.
        start: gives the model's address for the length of a context.

    """

    def __init__(self, options: SamplingOptions, start: Callable[[], AbstractContextManager[Address]]) -> None:
        self._options = options
        self._start = start
        self._stack = ExitStack()
        self._address: Address | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def samples(self, asked: list[A], what: str, n: int, how: Callable[[HttpSampler], Sampler[A]]) -> dict[str, Samples]:
        """`n` answers to each, by key: those that are kept, and the others asked now and kept. Raises what the sampler raises."""
        path = beside(self._options.out, f"{what}.jsonl")
        known = read_samples(path)
        if all(one.key in known for one in asked):
            return {one.key: known[one.key] for one in asked}
        if self._address is None:
            self._address = self._stack.enter_context(self._start())
        return asyncio.run(self._ask(self._address, asked, path, n, how))

    async def _ask(
        self, address: Address, asked: list[A], path: Path, n: int, how: Callable[[HttpSampler], Sampler[A]]
    ) -> dict[str, Samples]:
        options = self._options
        headers = {"Authorization": f"Bearer {address.key}"} if address.key else {}
        async with httpx.AsyncClient(base_url=address.url, headers=headers) as client:
            model = address.model or await only_model(client)
            sampler = HttpSampler(client, model, temperature=options.temperature, max_tokens=options.max_tokens)
            with counting(path.suffixes[0].removeprefix(".")) as report:
                return await collect(
                    asked, how(sampler), path, n=n, seed=options.seed, at_once=options.concurrency, report=report
                )


@contextmanager
def teacher(options: DistillOptions, base: Path) -> Iterator[Address]:
    """Whoever the options name."""
    if options.teacher.startswith(("http://", "https://")):
        url = options.teacher.rstrip("/").removesuffix("/v1")
        yield Address(url, options.teacher_model, ClientSettings().api_key)
        return
    is_self = options.teacher == SELF
    with served(str(base) if is_self else options.teacher, options.start if is_self else None, options) as address:
        yield address


@contextmanager
def served(model: str, adapter: Path | None, options: SamplingOptions) -> Iterator[Address]:
    """A model folder or id, with an adapter or without, served here."""
    with ExitStack() as stack:
        preload = None
        if adapter is not None:
            preload = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            (preload / ADAPTER).symlink_to(adapter.absolute(), target_is_directory=True)
        say(f"starting {model}")
        log = beside(options.out, "server.log")
        yield stack.enter_context(serving(model, ADAPTER if adapter is not None else Path(model).name, log, preload))


def beside(out: Path, name: str) -> Path:
    """A file that belongs to a run, but not into its folder."""
    return out.with_name(f"{out.name}.{name}")
