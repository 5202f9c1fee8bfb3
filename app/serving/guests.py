"""Parts of a search that another model of the server computes, such as a judge: each with its own engine, places, adapter and prompt."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from adapters.leases import Lease
from app.admission import Admission, AdmittedRequest
from app.engine.base import Engine, Prompt
from app.errors import InvalidRequest, NotFound
from app.metering.meter import Meter
from app.serving.leasing import lease_adapters
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


@asynccontextmanager
async def admit_guests(
    find: FindModel, names: Sequence[str], admitted: AdmittedRequest, meter: Meter
) -> AsyncIterator[Mapping[str, Guest]]:
    """Admit other models to an admitted request, for the length of the block. The keys are their names.

    Raises:
        InvalidRequest: the server has no such model, or one that admits fewer branches at once than the request has.
        Busy: too many branches of its pool run or wait.
        AdapterError: its adapter cannot be served.

    """
    async with AsyncExitStack() as stack:
        yield {name: await _admit(stack, find, name, admitted, meter) for name in dict.fromkeys(names)}


async def _admit(stack: AsyncExitStack, find: FindModel, name: str, admitted: AdmittedRequest, meter: Meter) -> Guest:
    try:
        service = find(name)
        adapter, strategy = service.names.resolve(name)
    except NotFound as error:
        raise InvalidRequest(str(error), parameter="ponder") from error
    if strategy is not None:
        raise InvalidRequest(f"`{name}` names a strategy; a part of a search is a model alone.", parameter="ponder")
    if service.admission is not admitted.admission:
        if admitted.width > (most := service.admission.max_width):
            message = f"`{name}` admits at most {most} branches of one key, and this request needs {admitted.width}."
            raise InvalidRequest(message, parameter="ponder")
        admitted = stack.enter_context(service.admission.admit(admitted.caller, admitted.width))
    leases = await stack.enter_async_context(lease_adapters(service.names, adapter, (), meter))
    lease = leases.generator
    prompt = await service.engine.render_chat(
        _conversation("?"), template=None if lease is None else lease.version.chat_template
    )
    return Guest(service.engine, admitted, prompt, lease)


def _conversation(text: str) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 1,
        "chat_template_kwargs": {"enable_thinking": False},  # templates that do not know it ignore it
    }
