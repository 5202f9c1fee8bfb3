"""The runs that are compared: strategies with their budgets.

They can be changed freely: an answer counts only for the parameters with which it was given.
"""

from dataclasses import dataclass, field
from typing import Any

from benchmarks.quality.oracle import NAME

EXACT = "exact"
"""A placeholder for the question's own verifier."""

SEARCHES = ("beam_search", "tree_of_thoughts", "mcts", "particle_filtering")


@dataclass(frozen=True)
class Run:
    """One line of a table.

    Attributes:
        line: its line in the plot; by default the strategy.
        options: fields of the `ponder` object.
        fields: other fields of the request.

    """

    name: str
    strategy: str
    options: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    line: str = ""


def budgets(strategy: str, varied: str, values: tuple[int, ...], line: str = "", **options: Any) -> list[Run]:
    """Return one run for each value of one parameter."""
    line = line or strategy
    return [Run(f"{line} {varied}={value}", strategy, {varied: value, **options}, line=line) for value in values]


_STEPS = {"separator": "\n", "step_tokens": 24, "depth": 6, "verifier": EXACT}

_ORACLE = {"verifier": {"reward_model": NAME}}

PUZZLES = [
    Run("direct", "direct", line="direct"),
    *budgets("self_consistency", "n", (16,)),
    *budgets("best_of_n", "n", (4, 16, 40, 64, 128, 192), verifier=EXACT),
    *budgets("sequential_revision", "chains", (4,), attempts=4, verifier=EXACT),
    *budgets("beam_search", "n", (16, 32, 64), expand=2, **_STEPS),
    *budgets("beam_search", "n", (64, 128), "beam_search, expand 4", expand=4, **_STEPS),
    *budgets("beam_search", "n", (32,), "beam_search diverse", expand=4, diverse=True, **_STEPS),
    *budgets("particle_filtering", "n", (32,), **_STEPS),
    *budgets("tree_of_thoughts", "breadth", (4, 16), samples=4, evaluate="verifier", **_STEPS),
    *budgets("tree_of_thoughts", "breadth", (24,), "tree_of_thoughts, 8 samples", samples=8, evaluate="verifier", **_STEPS),
    *budgets("tree_of_thoughts", "breadth", (4,), "tree_of_thoughts, own values", samples=4, evaluate="value", **_STEPS),
    *budgets("mcts", "iterations", (12, 24, 48), expand=4, workers=4, **_STEPS),
    *budgets("beam_search", "n", (16,), "beam_search, perfect verifier", expand=4, **_STEPS | _ORACLE),
    *budgets("mcts", "iterations", (12,), "mcts, perfect verifier", expand=4, workers=4, **_STEPS | _ORACLE),
]

_WORDS = {"separator": "\n", "step_tokens": 64, "depth": 10}

MATH = [
    Run("direct", "direct", line="direct"),
    *budgets("self_consistency", "n", (4, 8, 16)),
    *budgets("best_of_n", "n", (8,), "best_of_n likelihood", verifier="likelihood"),
    *budgets("best_of_n", "n", (8,), "best_of_n p_true", verifier="p_true"),
    *budgets("sequential_revision", "chains", (2,), attempts=4),
    *budgets("beam_search", "n", (8,), expand=4, verifier="likelihood", **_WORDS),
    *budgets("beam_search", "n", (8,), "beam_search p_true", expand=4, verifier="p_true", **_WORDS),
    *budgets("particle_filtering", "n", (8,), verifier="p_true", **_WORDS),
    *budgets("tree_of_thoughts", "breadth", (2,), samples=4, evaluate="value", **_WORDS),
    *budgets("mcts", "iterations", (4,), expand=2, workers=4, value="agreement", rollouts=1, **_WORDS),
]

RUNS = {"game24": PUZZLES, "countdown": PUZZLES, "equations": MATH, "gsm8k": MATH}
