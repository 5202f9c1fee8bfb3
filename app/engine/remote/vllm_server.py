"""A replica of vLLM's own server, as `vllm serve --enable-scale-out` starts it."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from typing import TypeVar

import aiohttp
import msgspec

from adapters.errors import AdapterFailed
from adapters.ports import EngineAdapter
from app.engine.remote.connection import MAX_BODY_BYTES, Connection, message_of, read
from app.engine.remote.events import decoded, read_stream, read_whole
from app.engine.remote.routes import COMPLETIONS, TOKENS, Route, name_of
from app.engine.replica import (
    ReplicaCard,
    ReplicaFailed,
    ReplicaLoad,
    ReplicaUnfit,
    RequestFailed,
    RequestRefused,
    TokenPart,
    TokenRequest,
    UnknownAdapter,
)

ABORT = "/inference/v1/abort_requests"

LOAD_S = 120.0
"""Seconds that loading an adapter may take: the replica may read it from slow storage."""

_COUNTS = {
    "running": re.compile(rb"^vllm:num_requests_running\{[^}\n]*\} (\d[\d.e+]*)$", re.MULTILINE),
    "waiting": re.compile(rb"^vllm:num_requests_waiting\{[^}\n]*\} (\d[\d.e+]*)$", re.MULTILINE),
    "generated": re.compile(rb"^vllm:generation_tokens_total\{[^}\n]*\} (\d[\d.e+]*)$", re.MULTILINE),
}
_INFO = re.compile(
    rb'^ponder_replica_info\{frees_slots="(\d)",max_branches="(\d{1,6})"(?:,reads_store="(\d)")?\}', re.MULTILINE
)

MAX_ANSWER_BYTES = 512 * 2**20
"""The most bytes of a branch's answer in one piece: the log-probabilities of a long prompt are large."""

T = TypeVar("T")

_SLOTS = re.compile(rb'^vllm:lora_requests_info\{[^}\n]*max_lora="(\d{1,6})"', re.MULTILINE)


class _Model(msgspec.Struct):
    id: str
    root: str | None = None
    parent: str | None = None
    max_model_len: int | None = None


class _Models(msgspec.Struct):
    data: list[_Model]


class _Tokens(msgspec.Struct):
    tokens: list[int]


class VllmServer:
    """A `Replica` of vLLM's own server.

    vLLM unloads an adapter only by name, and keeps it in its slot until another one needs that (0.32). So adapters are never unloaded
    there: each is known by its content, and vLLM's engine drops the one that was used least recently. Where ponder is installed beside
    vLLM and repairs it (`app.engine.vllm.repairs`), its page of metrics says so, and adapters are unloaded.

    Args:
        url: of the server, without a path, such as `http://10.0.0.7:8000`.
        model: a name or a folder of the base model, to find it among those that the server lists.
        api_key: sent to it; None for none.

    """

    def __init__(self, url: str, model: tuple[str, ...], api_key: str | None = None) -> None:
        self.name = url
        self._wanted = model
        self._model = model[0]
        self._route = TOKENS
        self._can_abort = True
        self._frees_slots = False
        self._answers: dict[str, aiohttp.ClientResponse] = {}
        self._halted: set[str] = set()
        self._connection = Connection(url, api_key)
        self._to_abort: list[str] = []
        self._aborting: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Close its connections, which ends what it still generates for this server."""
        if self._aborting is not None:
            self._aborting.cancel()
        await self._connection.close()

    async def describe(self) -> ReplicaCard:
        """Return what it serves; see `Replica`."""
        await self._check_health()
        status, body = await self._connection.ask("GET", "/v1/models")
        if status in {401, 403}:
            raise ReplicaUnfit("it refuses the key (`replica_api_key`)")
        models = _decode(body, _Models).data if status == 200 else []
        bases = [one for one in models if one.parent is None]
        found = next((one for one in bases if {one.id, one.root} & set(self._wanted)), None)
        if found is None:
            names = ", ".join(one.id[:100] for one in bases[:3]) or "nothing"
            raise ReplicaUnfit(f"it serves {names}, and not {self._wanted[0]}")
        self._model = found.id
        losses = await self._choose_route()
        status, _ = await self._connection.ask("POST", ABORT, {"request_ids": []})
        self._can_abort = status == 200
        page = await self.metrics()
        slots, info = _SLOTS.search(page), _INFO.search(page)
        self._frees_slots = info is not None and info[1] == b"1"
        return ReplicaCard(
            model=found.id,
            version=await self._version(),
            max_model_len=found.max_model_len or 0,
            max_branches=int(info[2]) if info else None,
            frees_slots=self._frees_slots,
            adapter_slots=int(slots[1]) if slots and await self._takes_adapters() else 0,
            losses=losses,
            reads_store=info is not None and info[3] == b"1",
        )

    async def _check_health(self) -> None:
        status, _ = await self._connection.ask("GET", "/health")
        if status != 200:
            raise ReplicaFailed(f"/health answers {status}")

    async def _version(self) -> str:
        status, body = await self._connection.ask("GET", "/version")
        version = _decode(body, dict).get("version") if status == 200 else None
        return str(version or "?")[:40]

    async def _choose_route(self) -> tuple[str, ...]:
        """Choose the route for branches, and return what it lacks. Raises `ReplicaUnfit` where none can be used."""
        try:
            losses = await self._try(TOKENS)
        except ReplicaUnfit:
            losses = await self._try(COMPLETIONS)
        return (*self._route.losses, *losses)

    async def _try(self, route: Route) -> tuple[str, ...]:
        """Generate one token on a route. Return what the answer lacks. Raises `ReplicaUnfit`, or `ReplicaFailed` for a slow answer."""
        request = TokenRequest(
            id=f"ponder-probe-{secrets.token_hex(8)}", token_ids=(1,), sampling={"max_tokens": 1, "temperature": 0}, priority=1
        )
        try:
            async with asyncio.timeout(LOAD_S):
                parts = [part async for part in self._generate(request, route)]
        except RequestRefused as refusal:
            if "priority" in str(refusal):
                raise ReplicaUnfit("it orders no branches: start vLLM with --scheduling-policy priority") from None
            raise ReplicaUnfit(f"it refuses a branch of one token: {refusal}") from None
        except RequestFailed:
            raise ReplicaFailed("it fails at a branch of one token") from None
        except TimeoutError:
            raise ReplicaFailed(f"no token within {LOAD_S:g} s") from None
        if not any(part.token_ids for part in parts):
            raise ReplicaUnfit("its answers have no ids of tokens")
        self._route = route
        return () if parts[-1].cached_tokens is not None else ("cached tokens are not told (--enable-prompt-tokens-details)",)

    async def _takes_adapters(self) -> bool:
        """Whether adapters can be loaded: whether the route is there, which says that a name is missing."""
        status, _ = await self._connection.ask("POST", "/v1/load_lora_adapter", {})
        return status not in {404, 405}

    def generate(self, request: TokenRequest) -> AsyncIterator[TokenPart]:
        """Run one branch; see `Replica`. It is aborted by its id as well, since a proxy may hide that its reader is gone."""
        return self._generate(request, self._route)

    async def _generate(self, request: TokenRequest, route: Route) -> AsyncIterator[TokenPart]:
        is_over = False
        body = route.body(self._model, request)
        try:
            async with self._connection.answer("POST", route.path, body, {"X-Request-Id": request.id}) as response:
                if response.status != 200:
                    await _refuse(response, request, route)
                if request.interval == 0:
                    part = read_whole(await read(response, MAX_ANSWER_BYTES))
                else:
                    self._answers[request.id] = response
                    async for part in read_stream(response.content.iter_any()):
                        if part.finish_reason is None:
                            yield part
            is_over = True
            yield part  # only now: who has the last part leaves, and the connection shall be kept
        except ReplicaFailed:
            if request.id not in self._halted:
                raise
            yield TokenPart(finish_reason="abort")
        finally:
            self._answers.pop(request.id, None)
            self._halted.discard(request.id)
            if not is_over and self._can_abort:
                self._abort([request.id])

    async def halt(self, ids: list[str]) -> None:
        """Abort these branches; each still gets a last part. Where the server has no route for that, their streams are left."""
        if not self._can_abort:
            for one in ids:
                if (answer := self._answers.get(one)) is not None:
                    self._halted.add(one)
                    answer.close()
            return
        status, _ = await self._connection.ask(
            "POST", ABORT, {"request_ids": [self._route.engine_id.format(one) for one in ids]}
        )
        if status != 200:
            raise ReplicaFailed(f"an abort was answered with {status}")

    def _abort(self, ids: list[str]) -> None:
        """Abort branches whose readers are gone, those of one moment together."""
        self._to_abort += ids
        if self._aborting is None or self._aborting.done():
            self._aborting = asyncio.create_task(self._abort_all())

    async def _abort_all(self) -> None:
        while self._to_abort and not self._connection.is_closed:
            ids, self._to_abort = self._to_abort, []
            try:
                await self.halt(ids)
            except ReplicaFailed:  # its branches end with it
                return

    async def load(self) -> ReplicaLoad:
        """Return what it counts of itself; see `Replica`. A dead engine behind a living server counts as a failure."""
        await self._check_health()
        page = await self.metrics()
        # Each data-parallel rank has its own line.
        try:
            counts = {name: sum(int(float(value)) for value in pattern.findall(page)) for name, pattern in _COUNTS.items()}
        except (ValueError, OverflowError) as error:
            raise ReplicaFailed(f"its metrics are none: {error}"[:200]) from None
        return ReplicaLoad(**counts)

    async def metrics(self) -> bytes:
        """Return its page of metrics; see `Replica`."""
        status, page = await self._connection.ask("GET", "/metrics")
        return page if status == 200 else b""

    async def tokenize(self, text: str) -> tuple[int, ...] | None:
        """Return the token ids of a text; see `Replica`."""
        status, body = await self._connection.ask("POST", "/tokenize", {"prompt": text, "add_special_tokens": False})
        if status in {404, 405}:
            return None
        if status != 200:
            raise ReplicaFailed(f"/tokenize answers {status}")
        return tuple(_decode(body, _Tokens).tokens)

    async def load_adapter(self, adapter: EngineAdapter) -> None:
        """Load an adapter under the name of its content. Loading it again does nothing: vLLM says that it has it."""
        body = {"lora_name": name_of(adapter), "lora_path": adapter.path}
        status, answer = await self._connection.ask("POST", "/v1/load_lora_adapter", body, seconds=LOAD_S)
        if status == 200 or (status == 400 and b"already" in answer):
            return
        raise AdapterFailed(f"A replica did not take it: {message_of(answer) or status}")

    async def unload_adapter(self, adapter: EngineAdapter) -> None:
        """Unload an adapter where that frees its slot; see the class."""
        if self._frees_slots:
            await self._connection.ask("POST", "/v1/unload_lora_adapter", {"lora_name": name_of(adapter)})


async def _refuse(response: aiohttp.ClientResponse, request: TokenRequest, route: Route) -> None:
    """Raise the error that an answer to a branch stands for."""
    message = message_of(await read(response, MAX_BODY_BYTES)) or f"status {response.status}"
    if response.status in {400, 413, 422}:
        raise RequestRefused(message)
    if response.status in {401, 403}:
        raise ReplicaUnfit(f"{route.path} is closed: {message}")
    if response.status == 404:
        raise UnknownAdapter(message) if request.adapter is not None else ReplicaUnfit(f"{route.path}: {message}")
    raise ReplicaFailed(f"status {response.status}: {message}")


def _decode(body: bytes, kind: type[T]) -> T:
    return decoded(body, msgspec.json.Decoder(kind))
