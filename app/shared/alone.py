"""What a front end shares that is the only one: nothing. It is also the port that the rest of the service sees."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from adapters.agreement import Agreement, Alone
from adapters.registry import AdapterRegistry
from app.shared.policy_agreement import PolicyAgreement

Value = str | bytes | int

TIMEOUT_S = 1.0
"""Seconds that one call may take. A store that is slower than that counts as lost."""

LARGE_S = 5.0
"""Seconds that a call may take which reads large texts."""

Receive = Callable[[bytes], None]
"""Takes a message of another front end. It neither waits nor raises."""


Name = tuple[str, str]
"""The owner of a trace and its id."""


@dataclass(frozen=True, slots=True)
class PeerCall:
    """A call of another front end: `path` begins with a slash, and `headers` have nothing but the caller's key."""

    method: str
    path: str
    headers: Mapping[str, str]
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class PeerReply:
    """The status and the body of another front end's reply."""

    status: int
    body: bytes


class ScriptRunner(Protocol):
    """Runs Lua scripts in the store."""

    def key(self, *parts: str) -> str:
        """Return the key of these parts."""
        ...

    async def run(
        self, script: str, keys: Sequence[str], arguments: Sequence[Value] = (), *, seconds: float = TIMEOUT_S
    ) -> Any:
        """Run a script, which is atomic, and return what it returns, with texts as bytes.

        Raises `SharedStateLost` where that takes more than so many seconds; one that reads large texts may need more.
        """
        ...


class NotShared:
    """The shared state of a single front end."""

    runner: ScriptRunner | None = None
    """Runs scripts in the store; None without one."""

    front_end = ""
    """The id of this front end among all; empty where it is the only one."""

    adapters: Agreement = Alone()
    """The agreement on which version each adapter stands for."""

    policies = PolicyAgreement()
    """The agreement on the policies of models and adapters."""

    @property
    def is_up(self) -> bool | None:
        """Whether the store can be reached; None where there is none."""
        return None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Share within this block."""
        yield

    async def returned(self) -> None:
        """Wait until this front end follows the others again, or for the first time. A single one waits for ever."""
        await asyncio.Event().wait()

    def has_died(self, front_end: str) -> bool:  # noqa: ARG002 - the port's
        """Whether another front end has ended. While the store is away, nobody is known to have."""
        return False

    async def post(self, front_end: str, message: bytes) -> None:
        """Send a message to another front end. Raises `SharedStateLost`."""

    def receive(self, receive: Receive) -> None:
        """Call `receive` with each message that other front ends send to this one."""

    def publish_traces(self, names: Callable[[], Collection[Name]]) -> None:
        """Tell the other front ends what `names` returns: the traces that are kept here."""

    async def ask_for_trace(self, owner: str, trace_id: str, call: PeerCall) -> PeerReply | None:  # noqa: ARG002 - the port's
        """Call the front end that has a trace of this owner, and return its reply; None where nobody has it, or does not answer."""
        return None

    def branches_elsewhere(self, owner: str) -> int:  # noqa: ARG002 - the port's
        """Return how many branches of an owner the other front ends have admitted, as far as is known."""
        return 0

    def publish_branches(self, read: Callable[[], Mapping[str, int]]) -> None:
        """Tell the other front ends what `read` returns: owner -> branches that are admitted here."""

    def is_held_elsewhere(self, content: str) -> bool:  # noqa: ARG002 - the port's
        """Whether another front end has an adapter version of this content in its engine, as far as is known."""
        return False

    def follow_adapters(self, registry: AdapterRegistry) -> None:
        """Bring the registry to what all front ends have agreed on, from the start of `running` to its end."""

    def follow_policies(self, follow: Callable[[str], Awaitable[None]]) -> None:
        """Call `follow` with each name whose policies have changed, likewise."""
