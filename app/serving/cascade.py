"""`model: "auto"`: chooses which model of the server answers, looks at its answer, and asks another one where that is worth it.

Each model answers with its own plan, in its own pool. No place is held in one pool while another is asked for one, so two requests
cannot block each other.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from adapters.errors import AdapterError
from app.errors import PonderError
from app.request import Caller, InferenceRequest
from app.routing.cascade import CascadePolicy
from app.routing.planner import AUTO
from app.serving.cascade_session import CascadeSession
from app.serving.members import Members
from app.serving.model_names import ModelNames
from app.serving.preview import Preview
from app.serving.service import Service


class Cascade:
    """Answers for the model `auto`.

    Args:
        services: of all base models, at least one.
        policy: returns the policy that holds now.

    """

    def __init__(self, services: Sequence[Service], policy: Callable[[], CascadePolicy]) -> None:
        self._services = services
        self._policy = policy
        self.names = ModelNames(AUTO, None, services[0].planning.registries.strategies.names())

    @property
    def reader(self) -> Service:
        """The service of the longest context: a prompt that is longer has no model that reads it."""
        return max(self._services, key=lambda one: one.engine.card.max_model_len)

    @asynccontextmanager
    async def open(self, request: InferenceRequest, caller: Caller) -> AsyncIterator[CascadeSession]:
        """Admit a request with the first model that takes it. Where none does, raise what the first one refused it with."""
        session = CascadeSession(Members(self._services, self._policy(), replace(request, owner=caller.owner)), request, caller)
        async with await session.begin():
            yield session

    async def preview(self, request: InferenceRequest) -> Preview:
        """Return what the first model that takes the request would run, and what is estimated of all that may answer.

        Raises what the first one refused it with, where none takes it.
        """
        members = Members(self._services, self._policy(), request)
        refusal: PonderError | AdapterError | None = None
        while (choice := members.choose(())).member is not None:
            seat = members.seats[choice.member]
            try:
                preview = await seat.service.preview(seat.asked(request, choice))
            except (PonderError, AdapterError) as error:
                refusal = refusal or error
                members.drop(seat, error)
            else:
                estimated = tuple(one.member for one in members.seats.values() if one.member is not None)
                return replace(preview, why=choice.why, members=estimated)
        assert refusal is not None
        raise refusal
