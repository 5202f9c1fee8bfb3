"""The only place where the lab reaches the server: it starts a service in this process, and sends it requests.

The lab is offline: it runs in a command, and the server never imports it.
"""

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from adapters.concurrency import first_of
from adapters.names import AdapterRef
from adapters.version import AdapterVersion
from app.engine.base import Engine
from app.engine.build import build_engine
from app.lab.server import preloaded_folder
from app.request import Caller, InferenceRequest
from app.serving.service import Service
from app.settings import Settings
from strategies.core.ports import Model
from strategies.core.results import Result
from strategies.core.values import AnswerKind, StopReason, Task

NO_LIMIT = 10**9
"""A limit of tokens or seconds that is never reached: a measured answer may end only at its own maximum length."""

T = TypeVar("T")

EngineBuilder = Callable[[Settings], Engine]


@dataclass(frozen=True, slots=True)
class RequestRun:
    """The outcome of one request, and its cost.

    Attributes:
        task: as the strategy received it.
        flops: the FLOPs of all branches and verifiers.
        verify_flops: of the verifiers alone.
        num_branches: the number of branches that were drawn.
        exhausted_budget: the budget that ended the request, None where none did.

    """

    task: Task
    result: Result
    flops: int
    verify_flops: int
    num_branches: int
    exhausted_budget: StopReason | None


class LabService:
    """A running service, as far as the lab needs it."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a text."""
        return self._service.engine.encode(text)

    def version_of(self, adapter: str | None) -> str | None:
        """Return the version of an adapter, None for the base model."""
        found = self._find(adapter)
        return None if found is None else found.version

    def architecture_of(self, adapter: str | None) -> dict[str, Any]:
        """Return the architecture of the model with this adapter (None for the base model), as `Architecture.to_dict` writes it."""
        return self._service.engine.card.architecture_with(self._find(adapter)).to_dict()

    def _find(self, adapter: str | None) -> AdapterVersion | None:
        if adapter is None or self._service.adapters is None:
            return None
        return self._service.adapters.find(AdapterRef(adapter))

    async def run(
        self,
        body: Mapping[str, Any],
        *,
        request_id: str,
        question: str,
        kind: AnswerKind,
        temperature: float,
        adapter: str | None = None,
        strategy: str = "direct",
        parameters: Mapping[str, Any] | None = None,
        num_logprobs: int = 0,
    ) -> RequestRun:
        """Run one request, with log-probabilities.

        Args:
            body: `messages` of a chat, or a `prompt` of token ids, and `max_tokens`.
            request_id: the id of the request in the log.
            question: the last message of the user.
            kind: the kind of the answer.
            temperature: the temperature of sampling.
            adapter: the name of the adapter that answers, None for the base model.
            strategy: the name of the strategy.
            parameters: the parameters of the strategy.
            num_logprobs: the alternatives for each token whose log-probabilities are returned, besides its own.

        """
        request = _request(body, request_id=request_id, question=question, kind=kind, temperature=temperature, adapter=adapter)
        request = replace(request, strategy=strategy, parameters=parameters or {}, num_logprobs=num_logprobs)
        async with self._service.open(request, Caller("lab")) as session:
            outcome = await session.run(lambda _number, _event: None)
            [result], meter = outcome.results, session.meter
            return RequestRun(
                session.rendered.tasks[0],
                result,
                meter.total_flops,
                meter.flops["verify"],
                meter.branches["drawn"],
                meter.stopped,
            )

    async def with_model(
        self,
        body: Mapping[str, Any],
        do: Callable[[Task, Model], Awaitable[T]],
        *,
        request_id: str,
        question: str,
        kind: AnswerKind,
        adapter: str | None = None,
    ) -> T:
        """Return what `do` returns of the task of a request and the model that a strategy would get. It draws one branch at a time.

        The other arguments are those of `run`.
        """
        request = _request(body, request_id=request_id, question=question, kind=kind, adapter=adapter)
        async with self._service.open(request, Caller("lab")) as session:
            return await do(session.rendered.tasks[0], session.metered_model(0))


def _request(
    body: Mapping[str, Any],
    *,
    request_id: str,
    question: str,
    kind: AnswerKind,
    adapter: str | None,
    temperature: float = 0.0,
) -> InferenceRequest:
    return InferenceRequest(
        id=request_id, bodies=({**body, "temperature": temperature},), is_chat="messages" in body, question=question,
        num_chars=sum(len(message["content"]) for message in body.get("messages", ())),
        adapter=None if adapter is None else AdapterRef(adapter), strategy="direct", kind=kind, temperature=temperature,
        num_logprobs=0,
    )  # fmt: skip


@asynccontextmanager
async def start_service(
    model: str, adapters: Mapping[str, Path], *, max_tokens: int, build: EngineBuilder = build_engine
) -> AsyncIterator[LabService]:
    """Start a service in this process, and end it with the block.

    Args:
        model: the embedded model, or a folder.
        adapters: the folders of the adapters that it serves, by name. It serves no others.
        max_tokens: the most that an answer may have.
        build: makes the engine, by default vLLM's.

    """
    from app.lifespan import running  # noqa: PLC0415 - vLLM reads the environment that `build` prepares

    with tempfile.TemporaryDirectory() as store, preloaded_folder(adapters) as (folder, rank):
        settings = Settings(
            model=model, adapter_dir=Path(store, "adapters"), policy_dir=Path(store, "policies"),
            adapter_preload_dir=folder, shipped_adapters=False, adapter_slots=len(adapters) + 1 if adapters else 0,
            max_adapter_rank=rank, max_tokens=max_tokens, max_request_tokens=NO_LIMIT, max_request_flops=None,
            max_request_seconds=NO_LIMIT, max_n=64, max_branches_per_key=4096, max_waiting_branches=4096, priorities=False, learning=False,
            live_calibration_share=0,
        )  # fmt: skip
        try:
            async with running(settings, build(settings)) as pools:
                yield LabService(pools.first)
        except ExceptionGroup as failures:  # of the block, within the tasks of the service
            raise first_of(failures) from None
