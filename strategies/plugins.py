"""Finds strategies and verifiers of others: by entry points of installed packages, and by the names that an operator gives.

A package offers them so:

    [project.entry-points."ponder.strategies"]
    my_strategy = "my_package.module:MyStrategy"

    [project.entry-points."ponder.verifiers"]
    my_verifier = "my_package.module:MyVerifier"
"""

from collections.abc import Sequence
from importlib.metadata import EntryPoint, EntryPoints, entry_points

from strategies.registry import BUILT_IN, PluginError, Registries

GROUPS = ("ponder.strategies", "ponder.verifiers")


def load_registries(plugins: Sequence[str | type] = (), *, has_entry_points: bool = True) -> Registries:
    """Return the built-in strategies and verifiers with those of installed packages and these, each a class or `module:Class`.

    Raises `PluginError` for one that cannot be imported, is neither a strategy nor a verifier, or has a name that is taken.
    """
    offered = entry_points() if has_entry_points else EntryPoints()
    installed = [one for group in GROUPS for one in offered.select(group=group)]
    named = [EntryPoint(name=one, value=one, group="") if isinstance(one, str) else one for one in plugins]
    # a class that is installed and named by the operator as well is one plugin
    return BUILT_IN.extended(dict.fromkeys(_loaded(one) for one in (*installed, *named)))


def _loaded(plugin: EntryPoint | type) -> object:
    if isinstance(plugin, type):
        return plugin
    module, colon, cls = plugin.value.partition(":")
    if not (module and colon and cls):
        raise PluginError(f"plugin {plugin.value}: write it as module:Class")
    try:
        return plugin.load()
    except Exception as error:  # a module of others may raise anything while it is imported
        raise PluginError(f"plugin {plugin.value} cannot be imported: {type(error).__name__}: {error}") from error
