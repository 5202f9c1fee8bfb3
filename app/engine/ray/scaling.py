"""How many replicas there shall be: as many as the branches need, those that run and those that wait. Imports nothing else."""

import math
from typing import Any

BRANCHES = "branches"
"""The name under which a replica tells how many branches it has."""


def by_branches(context: Any) -> tuple[int, dict[str, Any]]:
    """Return the number of replicas with which each has `target_ongoing_requests` branches, for Ray Serve's autoscaler.

    Ray Serve itself counts calls, and a front end needs one call at a time for all of its branches. Its delays and bounds hold for the
    number that is returned.
    """
    counts = context.aggregated_metrics.get(BRANCHES) or {}
    return max(math.ceil(sum(counts.values()) / context.config.target_ongoing_requests), 1), {}
