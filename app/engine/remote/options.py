"""How a fleet is reached. Imports nothing else."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOptions:
    """What an operator can set of a fleet.

    Attributes:
        urls: of replicas, without paths. A name that stands for several addresses is as many replicas.
        max_branches: that one replica runs at the same time, where it does not tell.
        adapter_replicas: on how many replicas an adapter is loaded; None for all.
        adapter_store_url: from where replicas read adapters; None for the paths on this machine.

    """

    urls: tuple[str, ...] = ()
    max_branches: int = 64
    adapter_replicas: int | None = None
    adapter_store_url: str | None = None
