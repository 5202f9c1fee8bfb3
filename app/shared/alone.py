"""What a front end shares that is the only one: nothing. It is also the port that the rest of the service sees."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from adapters.agreement import Agreement, Alone
from adapters.registry import AdapterRegistry
from app.shared.policy_agreement import PolicyAgreement


class NotShared:
    """The shared state of a single front end."""

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

    def branches_elsewhere(self, owner: str) -> int:  # noqa: ARG002 - the port's
        """Return how many branches of an owner the other front ends have admitted, as far as is known."""
        return 0

    def publish_branches(self, read: Callable[[], Mapping[str, int]]) -> None:
        """Tell the other front ends what `read` returns: owner -> branches that are admitted here."""

    def follow_adapters(self, registry: AdapterRegistry) -> None:
        """Bring the registry to what all front ends have agreed on, from the start of `running` to its end."""

    def follow_policies(self, follow: Callable[[str], Awaitable[None]]) -> None:
        """Call `follow` with each name whose policies have changed, likewise."""
