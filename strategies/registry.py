"""The strategies by name. The API's validation, the tables in the README and the labels of the metrics all read from here."""

from typing import Any

from strategies.adaptive import Adaptive
from strategies.backtracking import Backtracking
from strategies.beam_search import BeamSearch
from strategies.best_of_n import BestOfN
from strategies.core.registry import Registry
from strategies.core.strategy import Strategy, StrategyContext
from strategies.direct import Direct
from strategies.mcts import Mcts
from strategies.particle_filtering import ParticleFiltering
from strategies.self_consistency import SelfConsistency
from strategies.sequential_revision import SequentialRevision
from strategies.tree_of_thoughts import TreeOfThoughts
from strategies.verifiers import CHOICES, VERIFIERS

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
    ),
)

__all__ = ["CHOICES", "STRATEGIES", "VERIFIERS", "AnyStrategy", "StrategyContext"]
