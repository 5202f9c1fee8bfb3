"""Other models of the server that take part in a request, such as a judge: each with its own engine, places, adapter and prompt."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from adapters.leases import Lease
from app.admission import Admission, AdmittedRequest
from app.engine.base import Engine, Prompt
from app.errors import InvalidRequest, NotFound
from app.metering.meter import Meter
from app.serving.leasing import Leases, WantedAdapters, lease_adapters
from app.serving.model_names import ModelNames
from strategies.core.errors import VerifierFailed


class Host(Protocol):
    """What a guest needs of the service of its model."""

    engine: Engine
    names: ModelNames
    admission: Admission


FindModel = Callable[[str], Host]
"""Returns the service of a model of the server; raises `NotFound`."""


@dataclass(frozen=True, slots=True)
class Guest:
    """A model of the server that takes part in a request to another one.

    Attributes:
        engine: of its pool.
        admitted: the request's place among the branches of its pool.
        prompt: a short one, with its model's dialect, and without grammar, images and stop strings of the caller's.
        lease: on its adapter; None for a base model.

    """

    engine: Engine
    admitted: AdmittedRequest
    prompt: Prompt
    lease: Lease | None

    async def ask(self, text: str) -> tuple[int, ...]:
        """Return the prompt in which the user says a text, and the model answers without thinking. Raises `VerifierFailed`."""
        template = None if self.lease is None else self.lease.version.chat_template
        try:
            prompt = await self.engine.render_chat(_conversation(text), template=template)
        except InvalidRequest as error:  # longer than its context
            raise VerifierFailed(f"{self.engine.card.name} cannot read it: {error}") from error
        thinking = prompt.thinking
        return prompt.token_ids + (thinking.end_ids if thinking is not None and thinking.is_open else ())


@dataclass(frozen=True, slots=True)
class Invited:
    """A model that a request names, before its pool has admitted it.

    Attributes:
        host: the service of its pool.
        adapter: whether it is an adapter.

    """

    host: Host
    is_adapter: bool


def invite(find: FindModel, names: Sequence[str]) -> Mapping[str, Invited]:
    """Return the other models that a request names. Raises `InvalidRequest` for one that the server does not have."""
    return {name: _invited(find, name) for name in dict.fromkeys(names)}


def _invited(find: FindModel, name: str) -> Invited:
    try:
        host = find(name)
        adapter, strategy = host.names.resolve(name)
    except NotFound as error:
        raise InvalidRequest(str(error), parameter="ponder") from error
    if strategy is not None:
        raise InvalidRequest(f"`{name}` names a strategy; a part of a search is a model alone.", parameter="ponder")
    return Invited(host, adapter is not None)


@asynccontextmanager
async def admit_guests(
    own: Host, invited: Mapping[str, Invited], admitted: AdmittedRequest, request: WantedAdapters, meter: Meter
) -> AsyncIterator[tuple[Leases, Mapping[str, Guest]]]:
    """Admit other models to an admitted request, and lease all its adapters, for the length of the block.

    Args:
        own: the service of the model that answers.
        invited: of `invite`.
        admitted: the request, by `own`.
        request: the adapters that it needs of `own`.
        meter: of the request.

    Returns:
        The leases on the request's own adapters, and the guests by their names.

    Raises:
        InvalidRequest: a pool admits fewer branches at once than the request has, or a verifier's adapter is not served.
        Busy: too many branches of a pool run or wait.
        AdapterError: an adapter cannot be served.

    """
    hosts = {one.host.engine.card.name: one.host for one in invited.values()} | {own.engine.card.name: own}
    async with AsyncExitStack() as stack:
        places = {name: admitted if host is own else _admit(stack, name, host, admitted) for name, host in hosts.items()}
        leases: dict[str, Leases] = {}
        # Each pool's adapters are leased at once, and all requests go through the pools in one order. Otherwise two requests that each
        # hold an adapter which the other one waits for would wait for ever.
        for pool, host in sorted(hosts.items()):
            guests = tuple(name for name, one in invited.items() if one.host is host and one.is_adapter)
            wanted = request.also(guests) if host is own else WantedAdapters(None, guests)
            leases[pool] = await stack.enter_async_context(lease_adapters(host.names, wanted, meter))
        yield (
            leases[own.engine.card.name],
            {name: await _guest(one.host, places, leases, name) for name, one in invited.items()},
        )


def _admit(stack: AsyncExitStack, name: str, host: Host, admitted: AdmittedRequest) -> AdmittedRequest:
    if admitted.width > (most := host.admission.max_width):
        message = f"`{name}` admits at most {most} branches of one key, and this request needs {admitted.width}."
        raise InvalidRequest(message, parameter="ponder")
    return stack.enter_context(host.admission.admit(admitted.caller, admitted.width))


async def _guest(host: Host, places: Mapping[str, AdmittedRequest], leases: Mapping[str, Leases], name: str) -> Guest:
    pool = host.engine.card.name
    lease = leases[pool].verifiers.get(name)
    template = None if lease is None else lease.version.chat_template
    prompt = await host.engine.render_chat(_conversation("?"), template=template)
    return Guest(host.engine, places[pool], prompt, lease)


def _conversation(text: str) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 1,
        "chat_template_kwargs": {"enable_thinking": False},  # templates that do not know it ignore it
    }
