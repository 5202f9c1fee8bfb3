"""The traffic of `benchmarks.swaps`: clients that send requests to one adapter name and check each answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks import load

ADAPTERS = Path(__file__).parent.parent / "tests" / "data" / "adapters"
WORDS = ("red", "green")
NAME = "colour"
CLIENTS = 16
TOKENS = 16


@dataclass
class Tally:
    """What was observed of the answers.

    Attributes:
        failed: the errors of requests.
        mixed: answers with words of both versions, or of none.
        stale: answers of a version that had been replaced before the request was sent.
        seconds: of each request.
        gaps: the seconds between the tokens of streams.

    """

    failed: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)


class Name:
    """The adapter name that is swapped. It knows which words an answer to a request of some time may have."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.versions: dict[str, str] = {}
        self._started: list[tuple[float, str]] = []
        self._switched: list[tuple[float, str]] = []

    async def push(self, word: str) -> None:
        """Upload the version that answers with `word`."""
        files = [("files", (path.name, path.read_bytes())) for path in sorted((ADAPTERS / word).iterdir())]
        response = await self._client.post("/v1/adapters", data={"name": NAME}, files=files)
        self.versions[word] = response.raise_for_status().json()["version"]
        self._switched.append((time.monotonic(), word))

    @property
    def num_swaps(self) -> int:
        """The number of swaps that were requested."""
        return len(self._started)

    async def swap(self) -> float:
        """Switch to the other version, and return the seconds that it took."""
        word = WORDS[self._switched[-1][1] == WORDS[0]]
        start = time.monotonic()
        self._started.append((start, word))
        response = await self._client.post(f"/v1/adapters/{NAME}/activate", json={"version": self.versions[word]})
        response.raise_for_status()
        self._switched.append((time.monotonic(), word))
        return time.monotonic() - start

    def allowed(self, begun: float) -> set[str]:
        """Return the word of the version that was active when the request was sent, and those of later swaps."""
        switched = [word for moment, word in self._switched if moment <= begun]
        done = max(moment for moment, _ in self._switched if moment <= begun)
        return {switched[-1], *(word for moment, word in self._started if moment > done - 1e-9)}


def check(text: str, name: Name, begun: float, tally: Tally) -> None:
    """Record an answer that is mixed, or of a version that had been replaced before the request was sent."""
    words = set(text.split())
    if len(words) != 1 or not words <= set(WORDS):
        tally.mixed.append(text)
    elif not words <= name.allowed(begun):
        tally.stale.append(text)


async def send(client: httpx.AsyncClient, serial: int, name: Name, tally: Tally) -> None:
    """Send one request: direct, best-of-n or a stream, in turn."""
    begun = time.monotonic()
    body: dict[str, Any] = {"model": NAME, "messages": load.question(serial % 40), "max_tokens": TOKENS, "temperature": 0.7}
    try:
        if serial % 3 == 0:
            text = await _streamed(client, body, tally)
            check(text, name, begun, tally)
        else:
            strategy = (
                {"strategy": "best_of_n", "n": 3, "verifier": "likelihood"} if serial % 3 == 1 else {"strategy": "direct"}
            )
            response = await client.post("/v1/chat/completions", json={**body, "ponder": strategy})
            reply = response.raise_for_status().json()
            check(reply["choices"][0]["message"]["content"], name, begun, tally)
    except (httpx.HTTPError, KeyError, IndexError) as error:
        tally.failed.append(f"{type(error).__name__}: {error}")
    tally.seconds.append(time.monotonic() - begun)


async def _streamed(client: httpx.AsyncClient, body: dict[str, Any], tally: Tally) -> str:
    parts: list[str] = []
    last = 0.0
    async with client.stream(
        "POST", "/v1/chat/completions", json={**body, "stream": True, "ponder": {"strategy": "direct"}}
    ) as response:
        response.raise_for_status()
        async for piece in load.contents(response):
            now = time.monotonic()
            if last:
                tally.gaps.append(now - last)
            parts.append(piece)
            last = now
    return "".join(parts)


async def under_load(
    client: httpx.AsyncClient,
    name: Name,
    *,
    requests: int,
    seconds: float,
    beside: Callable[[Callable[[], int]], Awaitable[None]] | None = None,
) -> Tally:
    """Run sixteen clients until so many requests or seconds. `beside` runs with them and can ask how many requests are done."""
    tally, start, serial = Tally(), time.monotonic(), iter(range(10**9))

    async def one_client() -> None:
        while len(tally.seconds) + CLIENTS <= requests and time.monotonic() - start < seconds:
            await send(client, next(serial), name, tally)

    async with asyncio.TaskGroup() as group:
        clients = [group.create_task(one_client()) for _ in range(CLIENTS)]
        if beside is not None:
            swapper = group.create_task(beside(lambda: len(tally.seconds)))  # type: ignore[arg-type]
            await asyncio.wait(clients)
            swapper.cancel()
    return tally
