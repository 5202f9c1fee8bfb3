"""The dashboard of compute: the FLOPs that requests cost, and the FLOPs that are saved."""

from boards.kit import (
    BOTH,
    FLOP,
    FLOPS,
    SHARE,
    STRATEGY,
    Board,
    Row,
    answers,
    figure,
    heat_map,
    lines,
    mean,
    named,
    quantile,
    rate,
)

SPENT = "ponder_flops_total"
SAVED = "ponder_flops_saved_total"
BEST_OF_16 = "ponder_flops_best_of_16_total"
ALL = f"({rate(SPENT)} + {rate(SAVED)})"
CACHE = f'{BOTH}, by="cache"'
EARLY = f'{BOTH}, by="early_stopping"'

NOW = Row(
    title="Now",
    panels=(
        figure("FLOPs per second", FLOPS, "Computed for requests that ended: prefill, decoding and verifiers.", rate(SPENT)),
        figure(
            "Utilisation", SHARE,
            "FLOPs per second over five minutes, as a share of the peak that a matrix product reached when the engine started. "
            "Decoding is bound by memory, so a few branches at a time reach a few percent.",
            "avg(instance:ponder_engine:utilisation_rate5m)", decimals=1,
        ),
        figure(
            "FLOPs per answer", FLOP, "FLOPs spent on all requests, divided by the requests that were answered.",
            f"{rate(SPENT)} / {answers()}",
        ),
        figure(
            "Against best-of-16", SHARE, "FLOPs spent, as a share of what sixteen whole answers to each question would have cost.",
            f"{rate(SPENT)} / {rate(BEST_OF_16)}", limits=((0.5, "yellow"), (1, "red")), decimals=0,
        ),
        figure(
            "Saved by the cache", SHARE, "FLOPs that the prefix cache made unnecessary, as a share of all that would have been needed.",
            f"{rate(SAVED, CACHE)} / {ALL}", decimals=1,
        ),
        figure(
            "Saved by stopping early", SHARE,
            "FLOPs that were not needed because a plan stopped early, as a share of all that would have been needed. An estimate: "
            "the rest of each plan.",
            f"{rate(SAVED, EARLY)} / {ALL}", decimals=1,
        ),
    ),
)  # fmt: skip

SPENDING = Row(
    title="Where FLOPs go",
    panels=(
        lines(
            "FLOPs by phase", FLOPS,
            "Prefill (prompts), decode (answers) and verify (verifiers). Counted when a request ends.",
            (rate(SPENT, by="kind"), "{{kind}}"), stacked=True,
        ),
        lines(
            "FLOPs by strategy", FLOPS, "The strategies that spend them.", (rate(SPENT, by="strategy"), "{{strategy}}"), stacked=True,
        ),
        lines(
            "FLOPs by adapter", FLOPS, "The adapters that spend them, and the base model.",
            (named(rate(SPENT, by="adapter")), "{{adapter}}"), stacked=True,
        ),
        lines(
            "Utilisation by replica", SHARE,
            "FLOPs per second over five minutes, as a share of the peak that was measured at the start.",
            ("instance:ponder_engine:utilisation_rate5m", "{{instance}}"), width=12,
        ),
        lines(
            "FLOPs per second and peak", FLOPS,
            "FLOPs of all replicas per second, and their peak: the speed of one large matrix product in the model's number format.",
            ("sum(rate(ponder_flops_total[$__rate_interval]))", "computed"),
            ("sum(ponder_engine_peak_flops_per_second)", "peak"), width=12, colours={"peak": "text"},
        ),
    ),
)  # fmt: skip

ANSWERS = Row(
    title="What an answer costs",
    panels=(
        lines(
            "FLOPs per answer by strategy", FLOP, "FLOPs spent on all requests of a strategy, divided by those that were answered.",
            (f"{rate(SPENT, by='strategy')} / {answers(by='strategy')}", "{{strategy}}"),
        ),
        lines(
            "Against best-of-16 by strategy", SHARE,
            "FLOPs spent, as a share of what sixteen whole answers of the same length to the same questions would have cost. Above "
            "the line, a fixed best-of-16 would be cheaper.",
            (f"{rate(SPENT, by='strategy')} / {rate(BEST_OF_16, by='strategy')}", "{{strategy}}"), limits=((1, "red"),),
        ),
        heat_map("FLOPs of a request", FLOP, "How many requests cost how many FLOPs.", "ponder_request_flops", STRATEGY),
        lines(
            "Saved", SHARE,
            "FLOPs that were not needed, as a share of all that would have been: found in the prefix cache, or left of a plan that "
            "stopped early (estimated).",
            (f"{rate(SAVED, by='by')} / ignoring (by) group_left () {ALL}", "{{by}}"), stacked=True, top=1,
        ),
        lines(
            "Spent, and a fixed best-of-16", FLOPS, "FLOPs spent, and what sixteen whole answers to each question would have cost.",
            (rate(SPENT), "spent"), (rate(BEST_OF_16), "best-of-16"), colours={"spent": "green", "best-of-16": "text"},
        ),
        lines(
            "Saved by strategy", FLOPS,
            "FLOPs per second that were not needed, by the prefix cache and by stopping early together.",
            (rate(SAVED, by="strategy"), "{{strategy}}"), stacked=True,
        ),
    ),
)  # fmt: skip

WORK = Row(
    title="Work",
    panels=(
        lines(
            "Tokens by kind", "cps",
            "Tokens per second: prefilled, found in the cache, decoded. Tokens of verifiers are counted as `verified` as well.",
            (rate("ponder_tokens_total", by="kind"), "{{kind}}"),
        ),
        lines(
            "Candidates per request", "short", "Mean number of branches that a request drew.",
            (mean("ponder_candidates", STRATEGY, "strategy"), "{{strategy}}"),
        ),
        lines(
            "Branches", "cps", "Branches drawn per second, and branches cancelled before their end because they were no longer needed.",
            (rate("ponder_branches_total", by="state"), "{{state}}"), colours={"drawn": "green", "cancelled": "orange"},
        ),
        lines(
            "Tree size", "short", "Mean number of nodes in the search tree of a request.",
            (mean("ponder_tree_nodes", STRATEGY, "strategy"), "{{strategy}}"),
        ),
        lines(
            "Tree depth", "short", "Mean number of steps from the prompt to the deepest node.",
            (mean("ponder_tree_depth", STRATEGY, "strategy"), "{{strategy}}"),
        ),
        lines(
            "FLOPs of a request, p95", FLOP, "95 of 100 requests cost no more.",
            (quantile(0.95, "ponder_request_flops", STRATEGY, "strategy"), "{{strategy}}"), exemplars=True,
        ),
    ),
)  # fmt: skip

ENERGY = Row(
    title="Energy (where measured)",
    collapsed=True,
    panels=(
        lines(
            "Power", "watt", "Power of the processor packages (RAPL) and GPUs (NVML), other processes included.",
            ("sum by (source) (rate(ponder_energy_joules_total[$__rate_interval]))", "{{source}}"), stacked=True,
        ),
        lines(
            "Energy per answer by strategy", "joule", "The same energy, shared among requests by the FLOPs that they spent.",
            (
                f"{rate('ponder_request_energy_joules_total', by='strategy')} / {answers(by='strategy')}",
                "{{strategy}}",
            ),
        ),
        lines(
            "Power by strategy", "watt", "Energy of requests per second, by their strategy.",
            (rate("ponder_request_energy_joules_total", by="strategy"), "{{strategy}}"), stacked=True,
        ),
    ),
)  # fmt: skip

BOARD = Board(
    uid="ponder-compute",
    title="ponder: compute",
    description="FLOPs by phase, strategy and adapter, per answer, saved, and against a fixed best-of-16.",
    rows=(NOW, SPENDING, ANSWERS, WORK, ENERGY),
)
