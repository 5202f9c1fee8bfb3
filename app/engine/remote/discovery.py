"""From what the operator names to the addresses of replicas. A host name may have several, as that of a headless service has."""

import asyncio
import logging
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

logger = logging.getLogger("ponder.replicas")

LOOK_UP_S = 5.0
"""Seconds between two look-ups of the names."""


class Finder(Protocol):
    """Finds replicas."""

    @property
    def may_change(self) -> bool:
        """Whether another look-up may find others."""
        ...

    async def find(self) -> tuple[str, ...]:
        """Return the names of all replicas, each once."""
        ...


class Discovery:
    """Finds the replicas behind a list of URLs.

    With `http`, every address of a name is one replica. With `https`, a name is one replica, since certificates are for names.

    Args:
        urls: without paths.

    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = tuple(dict.fromkeys(urls))
        self._known: dict[str, tuple[str, ...]] = {}

    @property
    def may_change(self) -> bool:
        """Whether another look-up may find others."""
        return any(_is_looked_up(urlsplit(url)) for url in self._urls)

    async def find(self) -> tuple[str, ...]:
        """Return the URLs of all replicas, each once. If a name cannot be looked up, its last known addresses hold."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._find(url)) for url in self._urls]
        return tuple(dict.fromkeys(url for task in tasks for url in task.result()))

    async def _find(self, url: str) -> tuple[str, ...]:
        parts = urlsplit(url)
        if not _is_looked_up(parts):
            return (url,)
        port = parts.port or 80
        try:
            found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # the latter for a label that is empty or too long
            if url not in self._known:
                logger.warning("replicas of %s: the name cannot be looked up: %s", url, error)
                self._known[url] = ()
            return self._known[url]
        addresses = sorted({str(address[0]) for *_, address in found})
        self._known[url] = tuple(f"http://[{one}]:{port}" if ":" in one else f"http://{one}:{port}" for one in addresses)
        return self._known[url]


def _is_looked_up(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    if parts.scheme != "http" or host == "localhost":
        return False
    try:
        ip_address(host)
    except ValueError:
        return True
    return False
