"""The runs that are compared on the suite: one greedy answer, strategies that draw several, and those for models that think."""

from typing import Any

from benchmarks.quality.runs import Run, budgets

VERIFIER = "verifier"
"""The name of the adapter that scores, if there is one."""

_WITH_VERIFIER: dict[str, Any] = {"verifier": {"adapter": VERIFIER}}
_WITH_EQUATIONS: dict[str, Any] = {"verifier": "equations"}
_CUT: dict[str, Any] = {"cut": 0.5, "filter": "equations", "weights": "lowest_group"}
_REJECT: dict[str, Any] = {"reject": 0.5, "separator": "\n", "wave_tokens": 48}
_STEPS: dict[str, Any] = {"separator": "\n", "step_tokens": 48, "depth": 24}
_ALIGNED: dict[str, Any] = {"separator": "\n\n", "step_tokens": 48, "align": 32, "depth": 24}
_TREE: dict[str, Any] = {"evaluate": "verifier", "breadth": 1, "samples": 8, **_STEPS, **_WITH_EQUATIONS}
_GUIDED: dict[str, Any] = {"selection": "budget", "expand": 2, "workers": 2, "tries": 1, **_STEPS, **_WITH_EQUATIONS}

RUNS = [
    Run("direct", "direct", fields={"temperature": 0}, line="direct"),
    *budgets("self_consistency", "n", (4, 8, 16)),
    *budgets("self_consistency", "n", (8, 16), "self_consistency, filter, waves", filter="equations", schedule="waves"),
    *budgets("self_consistency", "n", (16,), "self_consistency, lowest group", weights="lowest_group"),
    *budgets("self_consistency", "n", (16,), "self_consistency, kept half", keep=0.5),
    *budgets("self_consistency", "n", (16,), "self_consistency, cut", cut=0.5),
    *budgets("self_consistency", "n", (16,), "self_consistency, cut, filter, lowest group", **_CUT),
    *budgets("best_of_n", "n", (4, 8, 16), "majority", verifier="majority"),
    *budgets("best_of_n", "n", (4, 8, 16), "best_of_n, tournament", verifier="tournament"),
    *budgets("self_aggregation", "rounds", (2, 3, 4), n=4),
    *budgets("self_aggregation", "rounds", (2, 4), "self_aggregation, all rounds", n=4, confidence=1),
    *budgets("best_of_n", "n", (4, 8, 16), "best_of_n, equations, vote", select="vote", **_WITH_EQUATIONS),
    *budgets("best_of_n", "n", (16, 64), "best_of_n, equations, reject", **_REJECT, **_WITH_EQUATIONS),
    *budgets("beam_search", "n", (4, 8), "beam_search, equations", expand=4, **_STEPS, **_WITH_EQUATIONS),
    *budgets("beam_search", "tries", (1, 2), "beam_search, equations, n=8", n=8, expand=4, **_STEPS, **_WITH_EQUATIONS),
    *budgets("beam_search", "n", (4, 8), "beam_search, equations, aligned", expand=4, tries=1, **_ALIGNED, **_WITH_EQUATIONS),
    *budgets("tree_of_thoughts", "tries", (1, 2), "tree_of_thoughts, equations", **_TREE),
    *budgets("mcts", "tokens", (200, 400), "mcts, equations, budget", **_GUIDED),
    *budgets("best_of_n", "n", (4, 8, 16), **_WITH_VERIFIER),
    *budgets("best_of_n", "n", (4, 8, 16), "best_of_n, vote", select="vote", **_WITH_VERIFIER),
    *budgets("best_of_n", "n", (16, 64), "best_of_n, reject", **_REJECT, **_WITH_VERIFIER),
    *budgets("beam_search", "n", (4, 8), expand=4, **_STEPS, **_WITH_VERIFIER),
]

WHOLE = Run("whole thinking", "direct", fields={"temperature": 0}, line="whole thinking")
"""What the runs that shorten the thinking are compared with: the same greedy answer."""


def _shortened(strategy: str, line: str, setting: str, **options: Any) -> Run:
    return Run(f"{line}, {setting}", strategy, options, {"temperature": 0}, line=line)


_EVERY_LINE: dict[str, Any] = {"transitions": ["\n"]}

THINKING = [
    WHOLE,
    *(_shortened("direct", "budget", str(most), budget={"thinking_tokens": most}) for most in (16, 32, 48, 64, 96, 128)),
    *(
        _shortened("direct", "budget, hard end", str(most), budget={"thinking_tokens": most, "thinking_landing": ""})
        for most in (32, 64, 96)
    ),
    *(_shortened("early_exit", "early_exit", str(sure), threshold=sure) for sure in (0.7, 0.9, 0.95, 0.99)),
    *(
        _shortened("early_exit", "early_exit, every line", str(sure), threshold=sure, trial_tokens=8, **_EVERY_LINE)
        for sure in (0.7, 0.9, 0.95, 0.99)
    ),
    *(
        _shortened("early_exit", "agreement", str(window), rule="agreement", window=window, trial_tokens=8, **_EVERY_LINE)
        for window in (2, 3)
    ),
    *(_shortened("direct", "at least", str(least), budget={"min_thinking_tokens": least}) for least in (128, 256)),
]
"""Runs of a model that thinks, which shorten or lengthen its thinking."""


THINKING_VOTES = budgets(
    "self_consistency", "n", (8, 16), "self_consistency, all equations, waves", filter="all_equations", schedule="waves"
)
"""Votes of a model that writes its equations in its thinking."""


def runs(*, has_verifier: bool, thinks: bool = False) -> list[Run]:
    """Return the runs that are possible with or without the adapter that scores, and with a model that thinks or one that does not."""
    possible = [run for run in RUNS if has_verifier or run.options.get("verifier") != _WITH_VERIFIER["verifier"]]
    return [*THINKING, *THINKING_VOTES, *possible[1:]] if thinks else possible
