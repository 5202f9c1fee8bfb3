"""Resolves model names: the base model or an adapter, each with or without `@strategy`."""

from collections.abc import Sequence
from contextlib import suppress

from adapters.errors import UnknownAdapter
from adapters.names import AdapterRef
from adapters.registry import AdapterRegistry
from app.errors import NotFound
from app.routing.planner import AUTO


class ModelNames:
    """The model names of one server.

    Args:
        base: the name under which the base model is served.
        adapters: the registry of adapters, None for a server that holds none.
        strategies: the names of the strategies of this server.

    """

    def __init__(self, base: str, adapters: AdapterRegistry | None, strategies: Sequence[str]) -> None:
        self.base = base
        self.adapters = adapters
        self.strategies = (AUTO, *strategies)

    def resolve(self, name: str) -> tuple[AdapterRef | None, str | None]:
        """Return the adapter (None: the base model) and the strategy (None: not named) of a model name, or raise `NotFound`."""
        # The operator may name the base model with an `@`, so only a known strategy after the last one counts as a strategy.
        model, separator, strategy = name.rpartition("@")
        if not separator:
            model, strategy = name, ""
        if not separator or strategy in self.strategies:
            if model == self.base:
                return None, strategy or None
            with suppress(UnknownAdapter):
                return self.find_adapter(model), strategy or None
        raise NotFound(f"The model `{name}` does not exist.", parameter="model")

    def resolve_policy(self, name: str) -> AdapterRef | None:
        """Return the adapter (None: the base model) that a policy of this name is for, or raise `NotFound`."""
        adapter, strategy = self.resolve(name)
        if strategy is not None:
            raise NotFound(
                f"`{name}` is a model with a strategy; a policy is for a model or an adapter alone.", parameter="model"
            )
        if adapter is not None and adapter.pin is not None:
            raise NotFound(
                f"`{name}` is one version. A policy is for a name: its field `adapter` says for which version it was made.",
                parameter="model",
            )
        return adapter

    def template_of(self, ref: AdapterRef | None) -> str | None:
        """Return the chat template of an adapter, None where conversations are written with the model's."""
        if ref is None or self.adapters is None:
            return None
        try:
            return self.adapters.find(ref).chat_template
        except UnknownAdapter:  # it was just removed: who leases it is told
            return None

    def find_adapter(self, name: str) -> AdapterRef:
        """Return a reference to an adapter that is served at this moment, or raise `UnknownAdapter`."""
        ref = AdapterRef.parse(name)
        if self.adapters is None:
            raise UnknownAdapter(f"There is no adapter `{name}`: this server holds none.", parameter="model")
        self.adapters.find(ref)
        return ref
