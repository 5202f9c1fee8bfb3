"""Reward models behind HTTP, which the operator runs and a request names as its verifier."""
