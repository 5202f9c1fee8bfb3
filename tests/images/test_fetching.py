"""Images from other hosts: only from those that the operator names, and never from where only this machine can reach."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from app.images.decoding import UnreadableImage
from app.images.fetching import ImageFetcher

pytestmark = pytest.mark.anyio

ADDRESSES = {
    "images.example": ["93.184.216.34"], "inner.example": ["10.0.0.5"], "loop.example": ["127.0.0.1"], "six.example": ["::1"],
    "meta.example": ["169.254.169.254"], "mapped.example": ["::ffff:10.0.0.5"], "both.example": ["192.168.1.1", "93.184.216.34"],
    "multicast.example": ["224.0.0.1"], "relay.example": ["2002:a00:5::1"], "nat.example": ["64:ff9b::a00:5"],
    "compatible.example": ["::10.0.0.5"], "site.example": ["fec0::1"], "outer.example": ["64:ff9b::5db8:d822"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server with these addresses alone."""

    async def getaddrinfo(_loop: Any, host: str, *_args: Any, **_options: Any) -> list[Any]:
        found = ADDRESSES.get(host, [host] if host[0].isdigit() or ":" in host else [])
        if not found:
            raise socket.gaierror
        return [(None, None, None, "", (address, 0)) for address in found]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)


Reply = Callable[[httpx.Request], httpx.Response]


def sent(content: bytes, status: int = 200, **headers: str) -> httpx.Response:
    """Return a reply that arrives in pieces."""

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 500):
            yield content[start : start + 500]

    return httpx.Response(status, headers=headers, content=pieces())


class Host:
    """A host with one reply, and the requests that it got."""

    def __init__(self, reply: Reply = lambda _: sent(b"image")) -> None:
        self.requests: list[httpx.Request] = []
        self._reply = reply

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._reply(request)

    async def fetch(self, url: str, *hosts: str, seconds: float = 5, most: int = 1000) -> bytes:
        """Read a URL with these hosts allowed."""

        def take(num_bytes: int) -> None:
            nonlocal most
            most -= num_bytes
            if most < 0:
                raise UnreadableImage("too many bytes")

        fetcher = ImageFetcher(hosts, seconds, httpx.MockTransport(self))
        try:
            return await fetcher.fetch(url, take)
        finally:
            await fetcher.close()


async def test_an_allowed_host_is_read_at_the_address_that_was_checked() -> None:
    """So another answer of the name server leads nowhere else. The certificate is still that of the name."""
    host = Host()
    assert await host.fetch("https://images.example:8443/a.png?b=c", "images.example") == b"image"
    [request] = host.requests
    assert str(request.url) == "https://93.184.216.34:8443/a.png?b=c"
    assert request.headers["host"] == "images.example:8443"
    assert request.extensions["sni_hostname"] == "images.example"
    assert {"cookie", "authorization"}.isdisjoint(request.headers)


@pytest.mark.parametrize(
    "url",
    [
        "https://other.example/x.png", "https://images.example.evil.example/x.png", "http://127.0.0.1/x.png", "http://2130706433/",
        "http://[::1]/x.png", "file:///etc/passwd", "ftp://images.example/x.png", "gopher://images.example/", "//images.example/x.png",
        "images.example/x.png", "/etc/passwd", "https://", "", "javascript:alert(1)", "https://user:key@images.example/x.png",
        "https://images.example@other.example/", "https://other.example#images.example", "http://images.example:99999/", "h" * 100_000,
        "http://xn--0/", "http://xn--a-ecp.ru/", "http://" + "\u00e9" * 60_000 + "/",
        "https://images.example\\@other.example/", "http://images.example\r\nHost: other.example/",
    ],
)  # fmt: skip
async def test_other_urls_reach_nobody(url: str) -> None:
    """Whatever their form."""
    host = Host()
    with pytest.raises(UnreadableImage):
        await host.fetch(url, "images.example")
    assert not host.requests


@pytest.mark.parametrize(
    "name",
    ["inner", "loop", "six", "meta", "mapped", "multicast", "relay", "nat", "compatible", "site", "unknown"],
)
async def test_a_private_address_is_not_read_by_a_name_alone(name: str) -> None:
    """A name on the list may lead to this machine's own network, because it changed or was taken over."""
    host = Host()
    with pytest.raises(UnreadableImage, match=r"public address|not known"):
        await host.fetch(f"http://{name}.example/x.png", f"{name}.example")
    assert not host.requests


async def test_a_private_address_is_read_where_the_list_has_it() -> None:
    """Besides the name. A name with a public address too is read there."""
    host = Host()
    assert await host.fetch("http://inner.example/x.png", "inner.example", "10.0.0.5") == b"image"
    assert await host.fetch("http://10.0.0.5/x.png", "10.0.0.5") == b"image"
    assert await host.fetch("http://[::1]:81/x.png", "::1") == b"image"
    assert await host.fetch("http://both.example/x.png", "both.example") == b"image"
    assert await host.fetch("http://outer.example/x.png", "outer.example") == b"image"
    reached = [request.url.host for request in host.requests]
    assert reached == ["10.0.0.5", "10.0.0.5", "::1", "93.184.216.34", "64:ff9b::5db8:d822"]


async def test_one_caller_leaves_no_cookie_for_the_next() -> None:
    """A cookie may open what only the first caller may see."""
    host = Host(lambda _: sent(b"image", **{"set-cookie": "session=secret; Path=/"}))
    fetcher = ImageFetcher(["images.example"], 5, httpx.MockTransport(host))
    for _ in range(2):
        assert await fetcher.fetch("https://images.example/x.png", lambda _: None) == b"image"
    await fetcher.close()
    assert all("cookie" not in request.headers for request in host.requests)


@pytest.mark.parametrize(
    ("location", "fault"),
    [
        ("https://other.example/", "not read"), ("http://127.0.0.1/", "not read"), ("file:///etc/passwd", "data URL"),
        ("https://inner.example/", "public"), ("/again", "redirects more"), ("http://[", "not read"), ("http://xn--0/", "malformed"),
    ],
)  # fmt: skip
async def test_a_redirect_is_checked_like_a_url(location: str, fault: str) -> None:
    """And ends after a few."""
    host = Host(lambda _: httpx.Response(302, headers={"location": location}))
    with pytest.raises(UnreadableImage, match=fault):
        await host.fetch("https://images.example/", "images.example", "inner.example")
    assert all(request.url.host == "93.184.216.34" for request in host.requests)
    assert len(host.requests) <= 4


async def test_a_redirect_on_the_list_is_followed() -> None:
    """With the name of the second host."""

    def reply(request: httpx.Request) -> httpx.Response:
        is_first = request.headers["host"] == "images.example"
        return httpx.Response(302, headers={"location": "http://both.example/y"}) if is_first else sent(b"y")

    assert await Host(reply).fetch("https://images.example/", "images.example", "both.example") == b"y"


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (sent(b"", 404), "status 404"), (sent(b"", 500), "status 500"), (sent(bytes(2000)), "too many"),
        (sent(b"x", **{"content-encoding": "gzip"}), "compressed"),
    ],
)  # fmt: skip
async def test_what_the_host_sends_is_bounded(reply: httpx.Response, fault: str) -> None:
    """In words that name the reason."""
    with pytest.raises(UnreadableImage, match=fault):
        await Host(lambda _: reply).fetch("https://images.example/", "images.example")


async def test_a_host_that_breaks_off_or_never_ends_is_refused() -> None:
    """Within the time that the operator gives."""

    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no", request=request)

    with pytest.raises(UnreadableImage, match="cannot be reached"):
        await Host(fail).fetch("https://images.example/", "images.example")

    async def drip() -> Any:
        while True:
            await asyncio.sleep(0.01)
            yield b""

    with pytest.raises(UnreadableImage, match=r"within 0\.1 seconds"):
        await Host(lambda _: httpx.Response(200, content=drip())).fetch(
            "https://images.example/", "images.example", seconds=0.1
        )
