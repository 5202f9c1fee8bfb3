"""A folder of adapters, one folder each, named as they are served: taken in at the start, and again when something changes there."""

import asyncio
import logging
from pathlib import Path

from watchfiles import awatch

from adapters.errors import AdapterError
from adapters.registry import AdapterRegistry
from adapters.upload import from_trusted_folder
from adapters.version import AdapterVersion

logger = logging.getLogger("ponder.adapters")


SHIPPED = Path(__file__).parent / "shipped"
"""A folder for each model that adapters come with, by its name, with a folder for each of its adapters."""


async def take_in(
    registry: AdapterRegistry, folder: Path, max_bytes: int, *, origin: str = "preload", yields: bool = False
) -> None:
    """Add every adapter in `folder`. New content is served at once; content that is known leaves the name as it was set.

    So a name that was rolled back stays rolled back when the server starts again. What is refused is logged, and the rest goes on.
    `yields`: leave a name alone whose adapter came from elsewhere.
    """
    for place in await asyncio.to_thread(_folders, folder):
        if yields and any(not version.source.startswith(f"{origin}:") for version in _versions(registry, place.name)):
            logger.info("there is another adapter %s: the %s one is left out", place.name, origin)
            continue
        fill = from_trusted_folder(place, max_bytes)
        try:
            await registry.add(place.name, fill, source=f"{origin}:{place.name}", keeps_choice=True)
        except AdapterError as error:
            logger.warning("adapter folder %s is not served: %s", place.name, error)


async def withdraw(registry: AdapterRegistry, origin: str) -> None:
    """Stop serving what was taken in from there at an earlier start; its versions are kept."""
    for adapter in registry.adapters():
        if adapter.current is not None and adapter.current.source.startswith(f"{origin}:"):
            await registry.deactivate(adapter.name)


def _versions(registry: AdapterRegistry, name: str) -> list[AdapterVersion]:
    return [version for adapter in registry.adapters() if adapter.name == name for version in adapter.versions.values()]


async def watch(registry: AdapterRegistry, folder: Path, max_bytes: int) -> None:
    """Take in what changes, for ever. A folder that is taken away changes nothing: the name is unloaded by the API."""
    async for _ in awatch(folder, step=200, debounce=1000):
        await take_in(registry, folder, max_bytes)


def _folders(folder: Path) -> list[Path]:
    return sorted(place for place in folder.iterdir() if place.is_dir() and not place.name.startswith("."))
