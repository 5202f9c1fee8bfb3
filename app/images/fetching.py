"""Reads images from the hosts that the operator allows.

A client's URL must not reach what only this machine can reach. So a host must be on the operator's list, and its address must be public
unless the list has the address too. The connection goes to the address that was checked, so that a name server cannot answer with
another one in between. A redirect is checked like the first URL.
"""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from app.images.decoding import UnreadableImage

MAX_REDIRECTS = 3
MAX_PORT = 65_535

_UNICAST = ipaddress.ip_network("2000::/3")
"""The addresses of version 6 that are given to hosts of the internet."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""Addresses of version 6 that lead to those of version 4, which are their last four bytes."""


class ImageFetcher:
    """Reads images over HTTP. Close it with `close`.

    Args:
        hosts: names and addresses that may be read from, in lower case.
        seconds: the longest that one image may take, redirects included.
        transport: how requests are sent, for tests.

    """

    def __init__(self, hosts: Sequence[str], seconds: float, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._hosts = frozenset(hosts)
        self._seconds = seconds
        # No proxy and no credentials of this machine's user, and nothing that one request leaves for the next: a cookie of one caller
        # would open what is another's, and a connection is to an address, with the certificate of one of the names there.
        self._client = httpx.AsyncClient(
            trust_env=False,
            timeout=seconds,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            limits=httpx.Limits(max_keepalive_connections=0),
            transport=transport,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def fetch(self, url: str, take: Callable[[int], None]) -> bytes:
        """Return the bytes behind a URL. Raises `UnreadableImage`.

        `take` is called with the number of bytes before they are kept, and raises where they are too many.
        """
        try:
            async with asyncio.timeout(self._seconds):
                return await self._fetch(url, take)
        except TimeoutError:
            raise UnreadableImage(f"the host did not send the image within {self._seconds:g} seconds") from None
        except (httpx.InvalidURL, UnicodeError) as error:  # of a name that no host can have, for example
            raise UnreadableImage(f"the URL is malformed: {str(error)[:200]}") from error
        except httpx.HTTPError as error:
            raise UnreadableImage("the host cannot be reached, or broke off") from error

    async def _fetch(self, url: str, take: Callable[[int], None]) -> bytes:
        target = httpx.URL(url)
        for _ in range(MAX_REDIRECTS + 1):
            async with self._response(target) as response:
                if not response.has_redirect_location:
                    return await _body(response, take)
                target = target.join(response.headers["location"])
        raise UnreadableImage(f"the host redirects more than {MAX_REDIRECTS} times")

    @asynccontextmanager
    async def _response(self, url: httpx.URL) -> AsyncIterator[httpx.Response]:
        self._check(url)
        address = await self._address(url)
        headers = {"host": url.netloc.decode(), "accept-encoding": "identity", "user-agent": "ponder"}
        pinned, extensions = url.copy_with(host=address), {"sni_hostname": url.raw_host.decode()}
        async with self._client.stream("GET", pinned, headers=headers, extensions=extensions) as response:
            yield response

    def _check(self, url: httpx.URL) -> None:
        if url.scheme not in ("http", "https") or not url.host:
            raise UnreadableImage("an image is given as a data URL, or as a URL that begins with https:// or http://")
        if url.userinfo or (url.port or 0) > MAX_PORT:
            raise UnreadableImage("the URL may hold no user, no password, and no port beyond 65535")
        if url.host not in self._hosts:
            raise UnreadableImage(
                f"images of the host {url.host[:100]!r} are not read (`allowed_media_domains`); send the image as a data URL"
            )

    async def _address(self, url: httpx.URL) -> str:
        """Return an address of the host that may be reached."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(url.host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise UnreadableImage(f"the host {url.host[:100]!r} is not known") from error
        addresses = [str(entry[4][0]) for entry in found]
        allowed = next((address for address in addresses if address in self._hosts or _is_public(address)), None)
        if allowed is None:
            raise UnreadableImage(f"the host {url.host[:100]!r} has no public address (`allowed_media_domains`)")
        return allowed


def _is_public(address: str) -> bool:
    """Return whether an address is the internet's, and the address of version 4 as well that it may stand for."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        last = ipaddress.IPv4Address(parsed.packed[-4:]) if parsed in _NAT64 else None
        if (inner := parsed.ipv4_mapped or parsed.sixtofour or last) is not None:
            return _is_public(str(inner))
        if parsed not in _UNICAST:
            return False
    return parsed.is_global and not parsed.is_multicast


async def _body(response: httpx.Response, take: Callable[[int], None]) -> bytes:
    if response.status_code != httpx.codes.OK:
        raise UnreadableImage(f"the host answered with status {response.status_code}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise UnreadableImage("the host sent the image compressed")  # what it unpacks to could fill the memory
    pieces = []
    async for piece in response.aiter_raw():
        take(len(piece))
        pieces.append(piece)
    return b"".join(pieces)
