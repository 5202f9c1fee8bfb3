"""Models that answer for training: one behind a URL, or one that is served here for as long as it is asked."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx

from adapters.training.sampling import A, Sampler, Samples, collect
from app.settings import ClientSettings
from app.training.options import DistillOptions, SamplingOptions
from app.training.sampler import HttpSampler, only_model
from app.training.server import Address, serving
from app.training.surroundings import counting, say

SELF = "self"
"""The base as its own teacher."""

ADAPTER = "student"
"""The name under which an adapter that answers is served here."""


@asynccontextmanager
async def teacher(options: DistillOptions, base: Path) -> AsyncIterator[HttpSampler]:
    """Whoever the options name."""
    if options.teacher.startswith(("http://", "https://")):
        address = Address(options.teacher.rstrip("/").removesuffix("/v1"), ClientSettings().api_key)
        async with _at(address, options.teacher_model, options) as sampler:
            yield sampler
    else:
        is_self = options.teacher == SELF
        model, adapter = (str(base), options.start) if is_self else (options.teacher, None)
        async with served(model, adapter, options) as sampler:
            yield sampler


@asynccontextmanager
async def served(model: str, adapter: Path | None, options: SamplingOptions) -> AsyncIterator[HttpSampler]:
    """A model folder or id, with an adapter or without, served here."""
    async with AsyncExitStack() as stack:
        preload = None
        if adapter is not None:
            preload = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            (preload / ADAPTER).symlink_to(Path.cwd() / adapter, target_is_directory=True)
        say(f"starting {model}")
        address = stack.enter_context(serving(model, beside(options.out, "server.log"), preload))
        name = ADAPTER if adapter is not None else Path(model).name
        yield await stack.enter_async_context(_at(address, name, options))


@asynccontextmanager
async def _at(address: Address, name: str | None, options: SamplingOptions) -> AsyncIterator[HttpSampler]:
    headers = {"Authorization": f"Bearer {address.key}"} if address.key else {}
    async with httpx.AsyncClient(base_url=address.url, headers=headers) as client:
        name = name or await only_model(client)
        yield HttpSampler(client, name, temperature=options.temperature, max_tokens=options.max_tokens)


async def sampled(options: SamplingOptions, asked: list[A], sampler: Sampler[A], what: str, n: int) -> dict[str, Samples]:
    """Answers to all of them, kept beside the result, so that nothing is asked twice."""
    path = beside(options.out, f"{what}.jsonl")
    with counting(what) as report:
        return await collect(asked, sampler, path, n=n, seed=options.seed, at_once=options.concurrency, report=report)


def beside(out: Path, name: str) -> Path:
    """A file that belongs to a run, but not into its folder."""
    return out.with_name(f"{out.name}.{name}")
