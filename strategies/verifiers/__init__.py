"""Scores for candidates, over the ports of `strategies.base`. Each is built from `Tools`, so that requests share no state."""

from strategies.base import Verifier
from strategies.named import Named
from strategies.verifiers.adapter import AdapterChoice, AdapterVerifier
from strategies.verifiers.likelihood import Likelihood
from strategies.verifiers.majority import Majority
from strategies.verifiers.self_certainty import SelfCertainty

VerifierClass = type[Majority] | type[Likelihood] | type[SelfCertainty]

VERIFIERS: Named[VerifierClass] = Named("verifier", (Majority, Likelihood, SelfCertainty))

__all__ = ["VERIFIERS", "AdapterChoice", "AdapterVerifier", "Verifier"]
