"""Models that answer for training: one behind a URL, or one that is served here while it is asked. Started only when needed."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

from adapters.training.data import digest
from adapters.training.http_sampler import HttpSampler, only_model
from adapters.training.run import Origin
from adapters.training.sampling import A, Kept, Sampler, Samples, collect
from adapters.weights import digest_of
from app.lab.training.environment import counting, say
from app.lab.training.options import DistillOptions, SamplingOptions
from app.lab.training.server import BASE, Address, serving
from app.settings import ClientSettings

SELF = "self"
"""The base as its own teacher."""

ADAPTER = "student"
"""The name under which an adapter that answers is served here."""


@dataclass(frozen=True, slots=True)
class Source:
    """Who answers: a model that is served here, with an adapter or without, or one behind a URL.

    Attributes:
        model: folder or id; at a URL its name there, "" when it is the only one.
        adapter: folder, for a model that is served here.

    """

    model: str
    adapter: Path | None = None
    url: str | None = None

    @classmethod
    def teacher(cls, options: DistillOptions, base: Path) -> "Source":
        """Whoever the options name."""
        if options.is_remote:
            return cls(options.teacher_model or "", url=options.teacher.rstrip("/").removesuffix("/v1"))
        return cls(str(base), options.start) if options.teacher == SELF else cls(options.teacher)

    @property
    def identity(self) -> list[Any]:
        """Tells it from others, wherever it lies."""
        folder = Path(self.model)
        if self.url is not None or not folder.is_dir():
            return [self.url, self.model]
        return [self.described, *sorted((file.name, file.stat().st_size) for file in folder.iterdir())]

    @property
    def described(self) -> str:
        """For a card: names and hashes, no places."""
        if self.url is not None:
            return self.model or "a server"
        if self.adapter is None:
            return Path(self.model).name
        return f"{Path(self.model).name} with the adapter {digest_of(self.adapter)[:12]}"

    @contextmanager
    def at_hand(self, log: Path) -> Iterator[Address]:
        """Where it answers for the length of the context."""
        if self.url is not None:
            yield Address(self.url, self.model or None, ClientSettings().api_key)
            return
        say(f"starting {self.model}")
        adapters = {ADAPTER: self.adapter} if self.adapter else {}
        with serving(self.model, ADAPTER if self.adapter else BASE, log, adapters) as address:
            yield address


class Answering:
    """Answers of one model, kept beside the result of a run. Who answers is started at the first question that has no answer yet.

    Args:
        options: how it is asked, and where the result is.
        source: who is asked.

    """

    def __init__(self, options: SamplingOptions, source: Source) -> None:
        self._options = options
        self._source = source
        self._stack = ExitStack()
        self._address: Address | None = None
        self._drawn: list[Samples] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def samples(self, asked: list[A], what: str, n: int, how: Callable[[HttpSampler], Sampler[A]]) -> dict[str, Samples]:
        """`n` answers to each, by key: those that are kept, and the others asked now and kept. Raises what the sampler raises."""
        options, source = self._options, self._source
        decides = [source.identity, options.temperature, options.max_tokens, options.seed, n]
        kept = Kept(beside(options.out, f"{what}.jsonl"), digest(decides))
        if all(one.key in kept.known for one in asked):
            found = {one.key: kept.known[one.key] for one in asked}
        else:
            if self._address is None:
                self._address = self._stack.enter_context(source.at_hand(beside(options.out, "server.log")))
            found = asyncio.run(self._ask(asked, kept, n, how))
        if missing := sum(not one.answers for one in found.values()):
            say(f"{missing} of {len(found)} questions are refused and left out")
        self._drawn += found.values()
        return found

    @property
    def cost(self) -> str:
        """Of all answers that were asked for here, also by starts before this one."""
        flops = [one.flops for one in self._drawn if one.flops is not None]
        told = f", {sum(flops) / 1e12:,.1f} TFLOP" if len(flops) == len(self._drawn) else ""
        return f"{sum(one.tokens for one in self._drawn):,} tokens{told}"

    @property
    def origin(self) -> Origin:
        """For a card: who answered how, and what it cost."""
        options = self._options
        how = {
            "answers of": self._source.described,
            "answers each": options.samples,
            "temperature": options.temperature,
            "most tokens": options.max_tokens,
        }
        return Origin(how, {"cost of the answers": self.cost})

    async def _ask(self, asked: list[A], kept: Kept, n: int, how: Callable[[HttpSampler], Sampler[A]]) -> dict[str, Samples]:
        options, address = self._options, self._address
        assert address is not None
        headers = {"Authorization": f"Bearer {address.key}"} if address.key else {}
        async with httpx.AsyncClient(base_url=address.url, headers=headers) as client:
            model = address.model or await only_model(client)
            sampler = HttpSampler(client, model, temperature=options.temperature, max_tokens=options.max_tokens)
            with counting(kept.path.stem.rpartition(".")[2]) as report:
                return await collect(
                    asked, how(sampler), kept, n=n, seed=options.seed, at_once=options.concurrency, report=report
                )


def beside(out: Path, name: str) -> Path:
    """A file that belongs to a run, but not into its folder."""
    return out.with_name(f"{out.name}.{name}")
