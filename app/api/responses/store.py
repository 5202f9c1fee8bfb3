"""The port to what keeps responses with their conversations, each for the API key that asked for it."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

RUNNING = ("queued", "in_progress")
"""The states of a response that has not ended."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept: responses and bytes of all keys together, and for how long."""

    max_responses: int
    max_bytes: int
    max_days: float


@dataclass(frozen=True, slots=True)
class Stored:
    """A response, the items of the conversation that it answered, and the events of its stream where it ran in the background.

    `front_end` is the id of the front end that runs it, where that is another one; else empty.
    """

    response: dict[str, Any]
    items: list[dict[str, Any]]
    events: bytes = b""
    front_end: str = ""

    @property
    def runs(self) -> bool:
        """Whether the response has not ended."""
        return self.response["status"] in RUNNING


class ResponseStore(Protocol):
    """Keeps responses within bounds.

    Where a bound is reached, the oldest response goes first of the key that has the most of what is full: responses or bytes. So a key
    cannot push out the responses of another.
    """

    def running(self) -> AbstractAsyncContextManager[None]:
        """Keep responses within this block."""
        ...

    async def save(self, owner: str, stored: Stored) -> None:
        """Keep a response, in place of the one with the same id. It raises nothing: the answer is there, and must go out."""
        ...

    async def find(self, owner: str, response_id: str) -> Stored | None:
        """Return the response with this id of this owner, None without one. Raises `SharedStateLost`."""
        ...

    async def find_items(self, owner: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the items with these ids in the output of this owner's responses; those that are not there are absent.

        Raises `SharedStateLost`.
        """
        ...

    async def delete(self, owner: str, response_id: str) -> bool:
        """Delete a response, and return whether there was one. Raises `SharedStateLost`."""
        ...


def with_stop(response: dict[str, Any]) -> dict[str, Any]:
    """Return a response that the end of the server has ended."""
    error = {"code": "server_error", "message": "The server was stopped while the response was running."}
    return {**response, "status": "failed", "error": error}
