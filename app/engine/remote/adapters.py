"""Adapters on replicas: each is loaded on all of them or on some, or is refused."""

import asyncio
import logging
import math
import secrets
from collections.abc import Callable
from dataclasses import replace

from adapters.errors import AdapterFailed
from adapters.object_store import ObjectStore
from adapters.ports import EngineAdapter
from app.engine.remote.fleet import Fleet
from app.engine.remote.member import Member
from app.engine.remote.placement import ranked
from app.engine.replica import NOT_A_NUMBER, ReplicaFailed, ReplicaUnfit, RequestFailed, RequestRefused, TokenRequest

logger = logging.getLogger("ponder.replicas")

PROBE_S = 120.0
"""Seconds that the first token with an adapter may take. The replica may be full, and may have to compile."""


class ReplicaAdapters:
    """An `AdapterHost` over the replicas of a fleet.

    Args:
        fleet: whose replicas hold the adapters.
        num_holders: on how many of them an adapter is loaded; None for all.
        probe_tokens: of the prompt that an adapter is tried with.
        objects: from where replicas read versions; None where they have the paths of this machine.

    """

    def __init__(
        self, fleet: Fleet, num_holders: int | None, probe_tokens: tuple[int, ...], objects: ObjectStore | None = None
    ) -> None:
        self._objects = objects
        self._fleet = fleet
        self._num_holders = num_holders
        self._probe_tokens = probe_tokens
        self._adapters: dict[str, EngineAdapter] = {}
        self.is_held_elsewhere: Callable[[str], bool] = lambda _content: False

    def holders(self, adapter: EngineAdapter, members: list[Member]) -> list[Member]:
        """Return those of `members` that shall hold the adapter."""
        if self._num_holders is None or len(members) <= self._num_holders:
            return members
        return ranked(adapter.content.encode()[-64:], members)[: self._num_holders]

    async def bring(self, member: Member) -> None:
        """Load the served adapters on a replica that joins. Raises `ReplicaUnfit` where it refuses one."""
        while missing := [
            one for content, one in self._adapters.items() if self._shall_hold(member, one) and content not in member.adapters
        ]:
            for adapter in missing:
                try:
                    await self._load_on(member, adapter)
                except AdapterFailed as error:
                    raise ReplicaUnfit(str(error)) from None
                if adapter.content not in self._adapters:  # it was unloaded meanwhile
                    await self._unload_from([member], adapter)

    def _shall_hold(self, member: Member, adapter: EngineAdapter) -> bool:
        return member in self.holders(adapter, list({*self._fleet.ready, member}))

    async def _load_on(self, member: Member, adapter: EngineAdapter) -> None:
        if self._objects is not None and member.card is not None and member.card.reads_store:
            adapter = replace(adapter, path=self._objects.url_of(adapter.content))
        await member.replica.load_adapter(adapter)
        member.adapters.add(adapter.content)

    async def ensure(self, member: Member, adapter: EngineAdapter) -> None:
        """Load an adapter on a replica that does not hold it: others have failed, or the replica was started anew.

        It was taken when it was loaded first, so a refusal is the replica's failure: `ReplicaFailed`.
        """
        if adapter.content not in member.adapters:
            try:
                await self._load_on(member, adapter)
            except AdapterFailed as error:
                raise ReplicaFailed(str(error)) from None

    async def load(self, adapter: EngineAdapter) -> None:
        """Load an adapter. Where one replica does not take it, none keeps it. Raises `AdapterFailed`."""
        self._adapters[adapter.content] = adapter  # a replica that joins from now on takes it too
        members = self.holders(adapter, self._fleet.ready)
        results = await asyncio.gather(*(self._load_on(member, adapter) for member in members), return_exceptions=True)
        refused = None
        for member, result in zip(members, results, strict=True):
            if isinstance(result, ReplicaFailed):
                member.suspect(str(result))
            elif isinstance(result, BaseException):
                logger.warning("replica %s: does not take the adapter %s: %s", member.name, adapter.name, result)
                refused = refused or result
        if refused is None and not members:
            refused = AdapterFailed("No replica is ready.")
        if refused is not None:
            await self.unload(adapter)
            raise refused

    async def probe(self, adapter: EngineAdapter) -> None:
        """Generate one token with the adapter on each replica that holds it. Raises `AdapterFailed` where one computes nonsense."""
        members = [one for one in self._fleet.ready if adapter.content in one.adapters]
        if not members:
            raise AdapterFailed("No replica is ready.")
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._probe(member, adapter)) for member in members]
        if not any(task.result() for task in tasks):
            raise AdapterFailed("No replica could try it.")

    async def _probe(self, member: Member, adapter: EngineAdapter) -> bool:
        request = TokenRequest(
            id=f"ponder-try-{secrets.token_hex(8)}",
            token_ids=self._probe_tokens,
            sampling={"max_tokens": 1, "temperature": 0, "logprobs": 0},
            adapter=adapter,
        )
        try:
            async with asyncio.timeout(PROBE_S), member.waiting():
                parts = [part async for part in member.replica.generate(request)]
        except (ReplicaFailed, TimeoutError) as error:
            member.suspect(str(error) or f"no token within {PROBE_S:g} s")
            return False
        except (RequestRefused, RequestFailed) as error:
            logger.warning("replica %s: refuses the adapter %s: %s", member.name, adapter.name, error)
            raise AdapterFailed(f"A replica refused it: {error}") from None
        values = [value for part in parts for position in part.positions for _, value in position[:1]]
        if not values or not all(math.isfinite(value) and value > NOT_A_NUMBER for value in values):
            raise AdapterFailed("The engine computes nonsense with it: a token's probability is not a number.")
        return True

    async def unload(self, adapter: EngineAdapter) -> None:
        """Remove an adapter from all replicas, as far as they can."""
        self._adapters.pop(adapter.content, None)
        await self._unload_from([one for one in self._fleet.members if adapter.content in one.adapters], adapter)

    async def _unload_from(self, members: list[Member], adapter: EngineAdapter) -> None:
        for member in members:
            member.adapters.discard(adapter.content)
        if self.is_held_elsewhere(adapter.content):  # the last front end that holds it unloads it
            return
        results = await asyncio.gather(*(one.replica.unload_adapter(adapter) for one in members), return_exceptions=True)
        for member, result in zip(members, results, strict=True):
            if isinstance(result, ReplicaFailed):
                member.suspect(str(result))

    def loaded(self) -> frozenset[int]:
        """Return the ids of the adapters that the fleet holds."""
        return frozenset(one.id for one in self._adapters.values())
