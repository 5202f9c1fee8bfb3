"""The strategies by name. The API's validation, the tables in the README and the labels of the metrics all read from here."""

from typing import Any

from strategies.best_of_n import BestOfN
from strategies.direct import Direct
from strategies.named import Named
from strategies.self_consistency import SelfConsistency
from strategies.strategy import Strategy, Tools
from strategies.verifiers import VERIFIERS

AnyStrategy = Strategy[Any]

STRATEGIES: Named[type[AnyStrategy]] = Named("strategy", (Direct, BestOfN, SelfConsistency))

__all__ = ["STRATEGIES", "VERIFIERS", "AnyStrategy", "Tools"]
