"""Scores for candidates, over the ports of `strategies.base`. Each is built from `Tools`, so that requests share no state."""

from collections.abc import Callable

from strategies.base import Verifier
from strategies.named import Named
from strategies.strategy import Tools
from strategies.verifiers.likelihood import Likelihood
from strategies.verifiers.majority import Majority
from strategies.verifiers.self_certainty import SelfCertainty

VERIFIERS: Named[Callable[[Tools], Verifier]] = Named("verifier", (Majority, Likelihood, SelfCertainty))

__all__ = ["VERIFIERS", "Verifier"]
