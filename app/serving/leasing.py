"""The leasing stage: holds the adapter versions that a request uses, each at one version from the first to the last branch."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

from adapters.errors import UnknownAdapter
from adapters.leases import Lease
from adapters.names import AdapterRef
from app.errors import InvalidRequest
from app.metering.meter import Meter
from app.serving.model_names import ModelNames
from app.telemetry.spans import Attributes


@dataclass(frozen=True, slots=True)
class Leases:
    """The leases of one request.

    Attributes:
        generator: the lease on the adapter that answers; None for the base model.
        verifiers: the leases on the adapters that the strategy's parameters name. The keys are these names.

    """

    generator: Lease | None = None
    verifiers: Mapping[str, Lease] = field(default_factory=dict)

    def span_attributes(self) -> Attributes:
        """Return the versions as `ponder.adapter` (the generator) and `ponder.adapter.NAME` (a verifier)."""
        generator = {} if self.generator is None else {"ponder.adapter": self.generator.version.id}
        return generator | {f"ponder.adapter.{name}": lease.version.id for name, lease in self.verifiers.items()}


@dataclass(frozen=True, slots=True)
class WantedAdapters:
    """The adapters that a request needs of one pool: that which answers (None for the base model), and others by their names."""

    generator: AdapterRef | None
    verifiers: tuple[str, ...] = ()

    def also(self, verifiers: tuple[str, ...]) -> "WantedAdapters":
        """Return these adapters and further ones."""
        return replace(self, verifiers=(*self.verifiers, *verifiers))


def find_verifiers(names: ModelNames, verifiers: Sequence[str]) -> dict[str, AdapterRef]:
    """Return the adapters of verifiers by their names. Raises `InvalidRequest` for one that is not served."""
    try:
        return {name: names.find_adapter(name) for name in verifiers}
    except UnknownAdapter as error:
        raise InvalidRequest(str(error), parameter="ponder") from error


@asynccontextmanager
async def lease_adapters(names: ModelNames, wanted: WantedAdapters, meter: Meter) -> AsyncIterator[Leases]:
    """Hold the generator's and the verifiers' adapters for the length of the block.

    Raises:
        InvalidRequest: a verifier's adapter is not served.
        NoSlot: the engine had no free slot within the request's seconds, or within the server's own limit.

    """
    verifier_refs = find_verifiers(names, wanted.verifiers)
    generator = wanted.generator
    refs = [*([generator] if generator else []), *verifier_refs.values()]
    if names.adapters is None or not refs:
        yield Leases()
        return
    async with AsyncExitStack() as stack:
        # All adapters are leased at once. Two requests that each hold one adapter and wait for the other's would wait for ever.
        with meter.timed("adapter"):
            leases = await stack.enter_async_context(names.adapters.lease(refs, max_wait=meter.budget.seconds))
        own, others = (leases[0], leases[1:]) if generator else (None, leases)
        yield Leases(own, dict(zip(verifier_refs, others, strict=True)))
