"""Traffic on one adapter name while the name is switched between two versions, and checks of its answers."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

NAME = "swapped"
WORDS = ("red", "green")
"""Each version answers with one word alone, so that an answer tells which version computed it."""

KINDS: tuple[dict[str, object], ...] = (
    {"stream": True, "ponder": {"strategy": "direct"}},
    {"ponder": {"strategy": "best_of_n", "n": 3, "verifier": "likelihood"}},
    {"ponder": {"strategy": "direct"}},
)
"""The requests are of these kinds in turn."""


@dataclass
class Findings:
    """What was wrong with the answers, and the number of adapters that the engine held after each swap."""

    failed: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    num_answers: int = 0


class SwappedName:
    """The adapter name, and when it was switched to which version."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._versions: dict[str, str] = {}
        self._switches: list[tuple[float, float, str]] = []
        """Seconds at which each switch was begun and done, and the word of its version."""

    async def push(self, word: str, folder: Path) -> None:
        """Upload a version, which is served from then on."""
        begun = time.monotonic()
        files = [("files", (path.name, path.read_bytes())) for path in sorted(folder.iterdir())]
        response = await self._client.post("/v1/adapters", data={"name": NAME}, files=files)
        self._versions[word] = response.raise_for_status().json()["version"]
        self._switches.append((begun, time.monotonic(), word))

    async def swap(self) -> None:
        """Switch to the other version."""
        word = WORDS[self._switches[-1][2] == WORDS[0]]
        begun = time.monotonic()
        self._switches.append((begun, float("inf"), word))
        body = {"version": self._versions[word]}
        (await self._client.post(f"/v1/adapters/{NAME}/activate", json=body)).raise_for_status()
        self._switches[-1] = (begun, time.monotonic(), word)

    def allowed(self, asked: float) -> set[str]:
        """The words that a request may be answered with: of the version that was served then, and of all later ones."""
        current = max(place for place, (_, done, _) in enumerate(self._switches) if done <= asked)
        return {word for _, _, word in self._switches[current:]}


async def swap_under_load(url: str, folders: Sequence[Path], *, swaps: int, clients: int = 16) -> Findings:
    """Swap so many times while clients send requests, and return what went wrong.

    Args:
        url: of the server.
        folders: of the two versions, in the order of `WORDS`.
        swaps: how often the name is switched.
        clients: the number of concurrent requests.

    """
    findings, is_done = Findings(), asyncio.Event()
    limits = httpx.Limits(max_connections=64)
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as http:
        name = SwappedName(http)
        for word, folder in zip(WORDS, folders, strict=True):
            await name.push(word, folder)

        async def send(number: int) -> None:
            while not is_done.is_set():
                await _check_one(http, name, number, findings)
                number += clients

        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(send(number))
            for swap in range(swaps):
                # each version answers some requests before the next swap
                while findings.num_answers < (swap + 1) * clients // 2 and not findings.failed:  # noqa: ASYNC110 - precise enough
                    await asyncio.sleep(0.01)
                await name.swap()
                findings.held.append((await http.get("/v1/adapters")).json()["slots"]["held"])
            is_done.set()
    return findings


async def _check_one(http: httpx.AsyncClient, name: SwappedName, number: int, findings: Findings) -> None:
    question = f"Story {number}: tell me about the number {number * 7919 % 1000}."
    kind = KINDS[number % len(KINDS)]
    body = {"model": NAME, "messages": [{"role": "user", "content": question}], "max_tokens": 16, "temperature": 0.7, **kind}
    asked = time.monotonic()
    try:
        response = (await http.post("/v1/chat/completions", json=body)).raise_for_status()
        text = _streamed_text(response.text) if "stream" in kind else response.json()["choices"][0]["message"]["content"]
    except (httpx.HTTPError, KeyError, IndexError) as error:
        findings.failed.append(f"{type(error).__name__}: {error}")
        return
    finally:
        findings.num_answers += 1
    words = set(text.split())
    if len(words) != 1 or not words <= set(WORDS):
        findings.mixed.append(text)
    elif not words <= name.allowed(asked):
        findings.stale.append(text)


def _streamed_text(body: str) -> str:
    """The text of server-sent events; an error in the stream raises `KeyError`."""
    chunks = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
