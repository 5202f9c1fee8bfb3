"""What is compared on the suite: one greedy answer, and strategies that draw several."""

from typing import Any

from benchmarks.quality.runs import Run, budgets

VERIFIER = "verifier"
"""The adapter that judges, where one of this name is given."""

_JUDGED: dict[str, Any] = {"verifier": {"adapter": VERIFIER}}
_READ: dict[str, Any] = {"verifier": "equations"}
_STEPS: dict[str, Any] = {"separator": "\n", "step_tokens": 48, "depth": 24}

RUNS = [
    Run("direct", "direct", fields={"temperature": 0}, line="direct"),
    *budgets("self_consistency", "n", (4, 8, 16)),
    *budgets("self_consistency", "n", (8, 16), "self_consistency, veto, waves", veto="equations", schedule="waves"),
    *budgets("best_of_n", "n", (4, 8, 16), "majority", verifier="majority"),
    *budgets("best_of_n", "n", (4, 8, 16), "best_of_n, equations, vote", select="vote", **_READ),
    *budgets("beam_search", "n", (4, 8), "beam_search, equations", expand=4, **_STEPS, **_READ),
    *budgets("best_of_n", "n", (4, 8, 16), **_JUDGED),
    *budgets("best_of_n", "n", (4, 8, 16), "best_of_n, vote", select="vote", **_JUDGED),
    *budgets("beam_search", "n", (4, 8), expand=4, **_STEPS, **_JUDGED),
]


def runs(*, is_judged: bool) -> list[Run]:
    """Those that can be run, with or without the adapter that judges."""
    return [run for run in RUNS if is_judged or run.options.get("verifier") != _JUDGED["verifier"]]
