"""The base models of one server. Each is a pool of its own: an engine with its replicas, its adapters, its policies, its places."""

from collections.abc import Iterator
from contextlib import suppress

from app.errors import NotFound
from app.serving.answerer import Answerer
from app.serving.cascade import Cascade
from app.serving.current_cascade import CurrentCascade
from app.serving.service import Service
from app.telemetry.metrics import Metrics


class Pools:
    """The services of one server, one for each base model.

    Args:
        services: the first one's model stands where a request names none. All have the same observers and strategies.

    Attributes:
        cascade: returns the policy by which `auto` chooses.
        auto: answers for the model `auto`.

    """

    def __init__(self, *services: Service) -> None:
        self._services = services
        self.cascade = CurrentCascade(services)
        self.auto = Cascade(services, self.cascade)
        for one in services:
            one.find_model = self.serving

    def __iter__(self) -> Iterator[Service]:
        """Iterate over the services, the first one first."""
        return iter(self._services)

    @property
    def first(self) -> Service:
        """The service of the model that the server was started with."""
        return self._services[0]

    @property
    def metrics(self) -> Metrics:
        """The metrics of all pools."""
        return self.first.observers.metrics

    @property
    def failure(self) -> str | None:
        """Why an engine can never generate again, None as long as all may."""
        return next(filter(None, (one.engine.failure for one in self)), None)

    @property
    def outages(self) -> dict[str, str]:
        """Why a model generates nothing for the moment, by the name of the model; only of those that do not."""
        found = {one.engine.card.name: one.engine.failure or one.engine.outage for one in self}
        return {name: outage for name, outage in found.items() if outage is not None}

    def serving(self, model: str | None) -> Service:
        """Return the service of a model, with or without `@strategy`, or of an adapter; the first one for None. Raises `NotFound`.

        Where two pools have an adapter of one name, the earlier pool serves it.
        """
        if model is None:
            return self.first
        for one in self:
            with suppress(NotFound):
                one.names.resolve(model)
                return one
        raise NotFound(f"The model `{model}` does not exist.", parameter="model")

    def answering(self, model: str) -> Answerer:
        """Return who answers for the name of a model: its service, or for `auto` the cascade of all. Raises `NotFound`.

        A model or an adapter that is really named `auto` is found first.
        """
        try:
            return self.serving(model)
        except NotFound:
            with suppress(NotFound):
                self.auto.names.resolve(model)
                return self.auto
            raise

    def with_policy(self, name: str) -> Service:
        """Return the service that has, or would have, a policy of this name; the first one where none would."""
        for one in self:
            if name in one.planning.planner.policies.names():
                return one
        with suppress(NotFound):
            return self.serving(name)
        return self.first
