"""The strategies and the verifiers by name. The API's validation, the documentation and the labels of the metrics all read from here.

A server has one `Registries` value, made when it starts and passed to whoever needs it: the built-in ones, or those with plugins added.
Nothing changes it afterwards, so two servers in one process may have different plugins.
"""

import copy
import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import create_model
from pydantic.fields import FieldInfo

from strategies.adaptive import Adaptive
from strategies.backtracking import Backtracking
from strategies.beam_search import BeamSearch
from strategies.best_of_n import BestOfN
from strategies.core.parameters import Params
from strategies.core.registry import Registry
from strategies.core.strategy import Strategy
from strategies.core.verifier import Verifier, VerifierField
from strategies.direct import Direct
from strategies.early_exit import EarlyExit
from strategies.mcts import Mcts
from strategies.particle_filtering import ParticleFiltering
from strategies.self_aggregation import SelfAggregation
from strategies.self_consistency import SelfConsistency
from strategies.sequential_revision import SequentialRevision
from strategies.tree_of_thoughts import TreeOfThoughts
from strategies.verifiers import VERIFIERS

AnyStrategy = Strategy[Any]

STRATEGIES: Registry[type[AnyStrategy]] = Registry(
    "strategy",
    (
        Direct,
        BestOfN,
        SelfConsistency,
        Adaptive,
        Backtracking,
        BeamSearch,
        TreeOfThoughts,
        Mcts,
        ParticleFiltering,
        SequentialRevision,
        SelfAggregation,
        EarlyExit,
    ),
)
"""Those that come with ponder."""

RESERVED = frozenset({"auto"})
"""Names that mean something else where a strategy is named."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class PluginError(ValueError):
    """A plugin cannot be used. The message is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Registries:
    """The strategies and the verifiers of one server."""

    strategies: Registry[type[AnyStrategy]]
    verifiers: Registry[type[Verifier]]

    def extended(self, plugins: Iterable[object]) -> "Registries":
        """Return registries that have these `Strategy` and `Verifier` classes too; raises `PluginError`.

        Every verifier may be chosen wherever a strategy's parameters choose one, whichever of the two was added first.
        """
        added = list(plugins)
        for plugin in added:
            _check(plugin)
        strategies = [*self.strategies, *(one for one in added if _is_a(one, Strategy))]
        verifiers = [*self.verifiers, *(one for one in added if _is_a(one, Verifier))]
        try:
            known = Registry("verifier", verifiers)
            return Registries(Registry("strategy", (_bound(one, known) for one in strategies)), known)
        except ValueError as error:
            raise PluginError(f"plugin: {error}") from error


BUILT_IN = Registries(STRATEGIES, VERIFIERS)
"""What a server without plugins has."""


def _is_a(plugin: object, kind: type) -> bool:
    return isinstance(plugin, type) and issubclass(plugin, kind)


def _check(plugin: object) -> None:
    """Raise `PluginError` unless the class declares all that a registry needs."""
    if not (_is_a(plugin, Strategy) or _is_a(plugin, Verifier)):
        raise PluginError(f"plugin {plugin!r} is neither a Strategy nor a Verifier class")
    cls: Any = plugin
    if missing := sorted(getattr(cls, "__abstractmethods__", ())) if inspect.isabstract(cls) else []:
        raise PluginError(f"plugin {cls.__qualname__} does not define {', '.join(missing)}")
    name, fields = getattr(cls, "name", None), getattr(cls.Params, "model_fields", {})
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in RESERVED:
        raise PluginError(f"plugin {cls.__qualname__} has the name {name!r}: it must be lower-case letters, digits and _")
    if not getattr(cls, "summary", ""):
        raise PluginError(f"plugin {name} has no summary")
    if not _is_a(cls.Params, Params):
        raise PluginError(f"plugin {name}: its Params are not derived from ponder's Params")
    if issubclass(cls, Verifier) and fields and name not in fields:
        raise PluginError(f"plugin {name}: one of its parameters must be named {name}, since requests choose it by that")


def _bound(strategy: type[AnyStrategy], verifiers: Registry[type[Verifier]]) -> type[AnyStrategy]:
    """Return the strategy with parameters that choose among these verifiers; itself where its parameters choose none."""
    fields: dict[str, Any] = {}
    for name, field in strategy.Params.model_fields.items():
        annotation = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        if (rebound := _rebound(annotation, verifiers)) != annotation:
            fields[name] = (rebound, _without_metadata(field))
    if not fields:
        return strategy
    parameters = create_model(strategy.Params.__name__, __base__=strategy.Params, __doc__=strategy.Params.__doc__, **fields)
    attributes = {"Params": parameters, "__module__": strategy.__module__, "__doc__": strategy.__doc__}
    return type(strategy.__name__, (strategy,), attributes)


def _without_metadata(field: FieldInfo) -> FieldInfo:
    bare = copy.copy(field)
    bare.metadata = []
    return bare


def _rebound(annotation: Any, verifiers: Registry[type[Verifier]]) -> Any:
    """Return the annotation with every `VerifierField` in it pointing to these verifiers."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        marks = [replace(one, registry=verifiers) if isinstance(one, VerifierField) else one for one in metadata]
        return Annotated[_rebound(inner, verifiers), *marks]
    if get_origin(annotation) in (Union, type(int | None)):
        return reduce(or_, (_rebound(one, verifiers) for one in get_args(annotation)))
    return annotation
