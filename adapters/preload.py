"""Adapters that a server has from its start: those that ponder ships, and those in a folder of the operator's."""

import asyncio
import logging
from pathlib import Path

from watchfiles import awatch

from adapters.errors import AdapterError
from adapters.registry import AdapterRegistry
from adapters.upload import from_operator_folder
from adapters.version import AdapterVersion

logger = logging.getLogger("ponder.adapters")


SHIPPED = Path(__file__).parent / "shipped"
"""Has a folder for each model that ponder ships adapters for, by the model's name; in it is a folder for each adapter.
"""


async def add_folder(
    registry: AdapterRegistry, folder: Path, max_bytes: int, *, origin: str = "preload", keep_others: bool = False
) -> None:
    """Add every adapter in a folder that has one folder for each, under the folder's name.

    New content is served at once. Known content leaves the name as it is, so that a name that was rolled back stays
    rolled back when the server starts again. An adapter that is refused is logged, and the others are added.

    Args:
        registry: to add to.
        folder: of the folders.
        max_bytes: the most that an adapter's weights may have.
        origin: start of the versions' `source`.
        keep_others: skip names that have a version from elsewhere.

    """
    for place in await asyncio.to_thread(_folders, folder):
        versions = _versions(registry, place.name)
        if keep_others and any(not version.source.startswith(f"{origin}:") for version in versions):
            logger.info("there is another adapter %s: the %s one is left out", place.name, origin)
            continue
        write_files = from_operator_folder(place, max_bytes)
        try:
            await registry.add(place.name, write_files, source=f"{origin}:{place.name}", keep_current=True)
        except AdapterError as error:
            logger.warning("adapter folder %s is not served: %s", place.name, error)


async def stop_serving(registry: AdapterRegistry, origin: str) -> None:
    """Stop serving all adapters that came from `origin` at an earlier start; their versions are kept."""
    for adapter in registry.adapters():
        if adapter.current is not None and adapter.current.source.startswith(f"{origin}:"):
            try:
                await registry.deactivate(adapter.name)
            except AdapterError as error:
                logger.warning("adapter %s goes on being served: %s", adapter.name, error)


def _versions(registry: AdapterRegistry, name: str) -> list[AdapterVersion]:
    return [version for adapter in registry.adapters() if adapter.name == name for version in adapter.versions.values()]


async def watch_folder(registry: AdapterRegistry, folder: Path, max_bytes: int) -> None:
    """Add what changes in the folder, until the task is cancelled.

    The removal of a folder changes nothing: the API unloads a name.
    """
    # Milliseconds: a folder is read only when nothing has changed for a moment, so that its files have been copied.
    async for _ in awatch(folder, step=200, debounce=1000):
        await add_folder(registry, folder, max_bytes)


def _folders(folder: Path) -> list[Path]:
    return sorted(place for place in folder.iterdir() if place.is_dir() and not place.name.startswith("."))
