"""An `Engine` over replicas. Prompts are rendered and replies are read here; tokens are generated there."""

import asyncio
import math
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, nullcontext, suppress
from dataclasses import replace

from adapters.object_store import ObjectStore
from adapters.ports import EngineAdapter
from app.engine.architecture import Architecture
from app.engine.base import Branch, ModelCard, Output
from app.engine.remote.adapters import ReplicaAdapters
from app.engine.remote.checks import AnswerChecks
from app.engine.remote.discovery import Discovery, Finder
from app.engine.remote.fleet import Fleet
from app.engine.remote.joining import SAMPLE, Joining
from app.engine.remote.journey import Journey
from app.engine.remote.member import Member, State
from app.engine.remote.options import FleetOptions
from app.engine.remote.pages import pages_of
from app.engine.remote.placement import Placement
from app.engine.replica import (
    Replica,
    ReplicaCard,
    ReplicaFailed,
    ReplicaStatus,
    RequestFailed,
    RequestRefused,
    TokenPart,
    TokenRequest,
    UnknownAdapter,
)
from app.engine.vllm.errors import impossible_form
from app.engine.vllm.front_end import VllmFrontEnd
from app.engine.vllm.options import EngineOptions
from app.engine.vllm.post_mortem import start_errors
from app.engine.vllm.remote_branch import OutputReader, request_of
from app.engine.vllm.render_only import RenderOnly
from app.engine.vllm.rendering import Rendering
from app.engine.vllm.token_texts import TokenTexts
from app.engine.weights.conversions import ModelUnavailable
from app.errors import EngineFailed, InvalidRequest, NoReplica, first_error_only

REPLACEMENT_S = 2.0
"""Seconds that a branch waits for a replica where none is ready: one that lost a connection is back sooner."""

CROWD, CROWD_INTERVAL = 8, 4
"""Branches on a replica from which a streamed one comes in parts of so many tokens: a part costs both sides some 300 us of processor."""

JOIN_S = 15.0
"""Seconds after which a start gives up where every replica is unfit. Replicas that cannot be reached yet are waited for."""


class RemoteEngine(VllmFrontEnd):
    """An `Engine` over the replicas of one model.

    Args:
        options: of the model, as an engine in this process would have them.
        fleet: of the replicas.
        connect: returns the replica at an address.
        finder: finds the addresses; None for those in `fleet`.
        backing: is entered before replicas are looked for, and left when this engine is closed.

    """

    card: ModelCard

    def __init__(
        self,
        options: EngineOptions,
        fleet: FleetOptions,
        connect: Callable[[str], Replica],
        finder: Finder | None = None,
        backing: AbstractAsyncContextManager[None] | None = None,
    ) -> None:
        self._options = options
        self._fleet_options = fleet
        self._backing = backing or nullcontext()
        self._to_leave = AsyncExitStack()
        self.fleet = Fleet(finder or Discovery(fleet.urls), connect, self._join, self._count)
        self._placement = Placement()
        self._journeys: dict[str, tuple[Journey, Member | None]] = {}
        self._name = secrets.token_hex(4)  # other front ends have the same ids for branches of theirs
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the model's config and tokenizer, and wait for the first replica. Raises `ModelUnavailable` where all are unfit."""
        with first_error_only():
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read_model())
                group.create_task(self._to_leave.enter_async_context(self._backing))
        url = self._fleet_options.adapter_store_url
        self.adapters = ReplicaAdapters(
            self.fleet, self._fleet_options.adapter_replicas, self.encode(SAMPLE), None if url is None else ObjectStore(url)
        )
        self._joining = Joining(self.encode, lambda: self._max_model_len)
        self._max_model_len = self._options.max_model_len or 0
        self._keeping = asyncio.create_task(self.fleet.run())
        while not await self.fleet.wait_until(lambda: bool(self.fleet.ready), JOIN_S):
            members = self.fleet.members
            if self._keeping.done():
                self._keeping.result()
            if members and all(one.state is State.UNFIT for one in members):
                raise ModelUnavailable("; ".join(f"{one.name}: {one.reason}" for one in members))
        self._describe()

    async def _read_model(self) -> None:
        with start_errors(self._options.model):
            self._model = await asyncio.to_thread(RenderOnly.load, self._options)
            self._rendering = Rendering(self._options, lambda: self._model)
            await asyncio.to_thread(self._rendering.warm_up)
        self._texts = TokenTexts(self._model.renderer.tokenizer)

    def _describe(self) -> None:
        """Set the card, once the first replica is there. Callers get the context that the smallest of the first replicas has."""
        cards = [one.card for one in self.fleet.ready if one.card is not None]
        model = self._model.model_config
        self._max_model_len = model.max_model_len = min([model.max_model_len, *(one.max_model_len for one in cards)])
        max_images = self._rendering.max_images
        self.card = ModelCard(
            name=self._options.name,
            max_model_len=self._max_model_len,
            max_branches=self._fleet_options.max_branches,
            architecture=Architecture.from_config(model.hf_config.to_dict()),
            adapter_slots=min(self._options.adapter_slots, *(one.adapter_slots for one in cards)) if cards else 0,
            max_adapter_rank=self._options.max_adapter_rank,
            end_tokens=self._rendering.end_tokens,
            special_tokens=self._rendering.special_tokens,
            modalities=frozenset({"image"} if max_images else ()),
            max_images=max_images,
        )
        self._count()

    def _count(self) -> None:
        """Bring the card up to date: what the fleet holds is the sum over the replicas that are ready."""
        if not hasattr(self, "card"):
            return
        cards = [one.card for one in self.fleet.ready if one.card is not None]
        if not cards:
            return  # admission goes on with what there was, and the branches are refused
        branches = sum(one.max_branches or self._fleet_options.max_branches for one in cards)
        peaks = [one.peak_flops for one in cards]
        peak = math.fsum(one for one in peaks if one is not None) if None not in peaks else None
        versions = ", ".join(sorted({one.version for one in cards}))
        losses = tuple(dict.fromkeys(loss for one in cards for loss in one.losses))
        description = f"{len(cards)} replicas of vLLM {versions}"
        self.card = replace(self.card, max_branches=branches, peak_flops=peak, description=description, losses=losses)

    async def _join(self, member: Member) -> ReplicaCard:
        member.card = await self._joining.check(member.replica)
        await self.adapters.bring(member)
        return member.card

    async def close(self) -> None:
        """Leave the replicas, which end what they generate for this server."""
        if self._keeping is not None:
            self._keeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeping
        await self._to_leave.aclose()

    @property
    def failure(self) -> str | None:
        """Why this engine can never generate again, None as long as it may: replicas come back."""
        if self._keeping is None or self._keeping.done():
            return "the engine is not running"
        return None

    @property
    def outage(self) -> str | None:
        """Why no branch can be generated at the moment, None while there is a replica. Names none: anyone may read it."""
        if self.fleet.ready:
            return None
        states = Counter(one.state.value for one in self.fleet.members)
        return "no replica is ready: " + (
            ", ".join(f"{number} {state}" for state, number in sorted(states.items())) or "none is known"
        )

    @property
    def replicas(self) -> tuple[ReplicaStatus, ...]:
        """The replicas, by address."""
        return tuple(one.status() for one in self.fleet.members)

    async def generate(self, branch: Branch) -> AsyncIterator[Output]:
        """Run one branch, on as many replicas as it takes. Closing the iterator aborts it."""
        if branch.prompt.is_constrained and branch.seed is None and branch.is_streamed:
            branch = replace(branch, seed=secrets.randbits(62))  # so that another replica can repeat what was sent of it
        first = replace(request_of(branch), id=self._id_of(branch.id))
        journey = Journey(branch, first, OutputReader(branch, self._model.renderer.tokenizer, self._texts))
        self._journeys[branch.id] = (journey, None)
        try:
            while (request := journey.next_request()) is not None and not journey.is_halted:
                if (member := await self._member_for(branch, journey)) is None:
                    break
                self._journeys[branch.id] = (journey, member)
                try:
                    async with aclosing(self._parts(member, _paced(request, member), journey)) as parts:  # type: ignore[type-var]
                        async for part in parts:
                            if (output := journey.read(part)) is None:
                                continue
                            yield output
                            if output.finish_reason is not None:
                                return
                except ReplicaFailed as failure:
                    member.suspect(str(failure))
                    self._journeys[branch.id] = (journey, None)
                    journey.move(member.name)
                except RequestRefused as refusal:
                    raise InvalidRequest(str(refusal)) from None
                except RequestFailed:
                    raise self._failure_of(branch) from None
            yield journey.end("abort" if journey.is_halted else "length")
        finally:
            del self._journeys[branch.id]

    def _id_of(self, branch_id: str) -> str:
        """Return the id that a branch has on replicas, which several front ends share."""
        return f"{self._name}-{branch_id}"

    def _failure_of(self, branch: Branch) -> Exception:
        if branch.prompt.is_constrained:
            return impossible_form(branch)
        return EngineFailed("The engine failed at this request.")

    async def _member_for(self, branch: Branch, journey: Journey) -> Member | None:
        """Return the replica for the next tokens of a branch, None once it is halted. Raises `NoReplica`."""

        def free() -> list[Member]:
            ready = [one for one in self.fleet.ready if one.breaker.may_pass]
            if branch.adapter is not None:
                ready = self.adapters.holders(branch.adapter, ready)
            return [one for one in ready if one.name not in journey.failed[-1:]] or ready

        if not (members := free()):
            if not await self.fleet.wait_until(lambda: journey.is_halted or bool(free()), REPLACEMENT_S):
                raise NoReplica("No engine is ready; try again in a moment.", retry_after=REPLACEMENT_S)
            members = free()
        return None if journey.is_halted else self._placement.place(branch, members)

    async def _parts(self, member: Member, request: TokenRequest, journey: Journey) -> AsyncIterator[TokenPart]:
        """Yield the parts of a branch on one replica. Raises `ReplicaFailed` also when the replica is lost meanwhile."""
        checks = AnswerChecks(request, self._model.model_config.get_vocab_size())
        with member.breaker.passing(), member.holding():
            if request.adapter is not None:
                await self.adapters.ensure(member, request.adapter)
                if journey.is_halted:
                    return
            async with aclosing(member.replica.generate(request)) as parts:  # type: ignore[type-var]
                while True:
                    try:
                        async with member.waiting():
                            part = await anext(parts)
                    except StopAsyncIteration:
                        raise ReplicaFailed("its answer had no end") from None
                    except UnknownAdapter:
                        member.adapters.clear()
                        raise
                    checks.check(part)
                    if part.finish_reason == "abort" and not journey.is_halted:
                        raise ReplicaFailed("it ended a branch unasked")
                    if part.finish_reason is not None:
                        break
                    member.breaker.note_progress()
                    yield part
        yield part  # only now: who has the last part leaves, and the branch shall have succeeded before

    async def halt(self, ids: list[str]) -> None:
        """End these branches, each on its replica."""
        by_member: dict[Member, list[str]] = {}
        for one in ids:
            journey, member = self._journeys.get(one, (None, None))
            if journey is not None and member is not None:
                by_member.setdefault(member, []).append(self._id_of(one))
            if journey is not None:
                journey.is_halted = True
        await self.fleet.wake()
        async with asyncio.TaskGroup() as group:
            for member, branches in by_member.items():
                group.create_task(self._halt(member, branches))

    async def _halt(self, member: Member, ids: list[str]) -> None:
        try:
            await member.replica.halt(ids)
        except ReplicaFailed as failure:
            member.suspect(str(failure))

    async def load_adapter(self, adapter: EngineAdapter) -> None:
        """Load an adapter on the replicas. Raises `AdapterFailed` where one of them does not take it; then none keeps it."""
        await self.adapters.load(adapter)

    async def probe_adapter(self, adapter: EngineAdapter) -> None:
        """Generate one token with the adapter on each replica that holds it. Raises `AdapterFailed`."""
        with first_error_only():
            await self.adapters.probe(adapter)

    async def unload_adapter(self, adapter: EngineAdapter) -> None:
        """Remove the adapter from the replicas, as far as they can."""
        await self.adapters.unload(adapter)

    async def loaded_adapters(self) -> frozenset[int]:
        """Return the ids of the adapters that the replicas hold for this server."""
        return self.adapters.loaded()

    def share(self, is_held_elsewhere: Callable[[str], bool]) -> None:
        """Keep adapters on the replicas that other front ends hold there, by their contents."""
        self.adapters.is_held_elsewhere = is_held_elsewhere

    async def metrics(self, *, is_openmetrics: bool) -> bytes:
        """Return the metrics of the replicas that are ready, each sample with the label `replica`."""
        return await pages_of([one.replica for one in self.fleet.ready], is_openmetrics=is_openmetrics)

    async def num_running(self) -> int:
        """Return the number of branches that the replicas run or queue for this server."""
        return sum(one.num_branches for one in self.fleet.members)


def _paced(request: TokenRequest, member: Member) -> TokenRequest:
    """Return a request whose tokens come in larger parts where its replica has a crowd of branches."""
    is_crowded = request.interval == 1 and member.load >= CROWD
    return replace(request, interval=CROWD_INTERVAL) if is_crowded else request
