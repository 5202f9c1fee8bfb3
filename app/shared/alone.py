"""What a front end shares that is the only one: nothing. It is also the port that the rest of the service sees."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from adapters.agreement import Agreement, Alone
from adapters.registry import AdapterRegistry


class NotShared:
    """The shared state of a single front end."""

    adapters: Agreement = Alone()
    """The agreement on which version each adapter stands for."""

    @property
    def is_up(self) -> bool | None:
        """Whether the store can be reached; None where there is none."""
        return None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Share within this block."""
        yield

    def follow_adapters(self, registry: AdapterRegistry) -> None:
        """Bring the registry to what all front ends have agreed on, from the start of `running` to its end."""
