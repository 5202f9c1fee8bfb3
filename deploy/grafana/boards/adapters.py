"""The dashboard of adapters: their states, swaps and failures, and the work of each."""

from boards.kit import (
    ADAPTER,
    FLOP,
    FLOPS,
    Board,
    Row,
    answers,
    figure,
    lines,
    named,
    quantile,
    rate,
    states,
)

SECONDS = "ponder_adapter_request_seconds"
LOADS = "ponder_adapter_load_seconds"
STATES = {"2": ("serving", "green"), "1": ("inactive", "text"), "0": ("lost", "red")}


def state(name: str) -> str:
    """The query that is 1 for the adapters in that state."""
    return f'ponder_adapter_state{{{ADAPTER}, state="{name}"}}'


def events(metric: str) -> str:
    """The query of how often an event happened to each adapter, in each step of the graph."""
    return f"sum by (adapter) (increase({metric}{{{ADAPTER}}}[$__rate_interval]))"


NOW = Row(
    title="Now",
    panels=(
        figure("Serving", "short", "Adapters that answer.", f"sum({state('serving')})"),
        figure("Inactive", "short", "Adapters that are stored and answer no requests.", f"sum({state('inactive')})"),
        figure(
            "Lost", "short", "Adapters whose version is gone from disk or does not fit: they answer 410. An alert watches them.",
            f"sum({state('lost')})", limits=((1, "red"),),
        ),
        figure("Slots taken", "short", "Versions in the engine; each takes a slot.", f"sum(ponder_adapter_versions_live{{{ADAPTER}}})"),
        figure(
            "Swaps", "short", "Switches of a name to a version, in the time that is shown.",
            f"sum(increase(ponder_adapter_swaps_total{{{ADAPTER}}}[$__range]))", decimals=0,
        ),
        figure(
            "Failures", "short", "Versions that the engine could not load, in the time that is shown.",
            f"sum(increase(ponder_adapter_failures_total{{{ADAPTER}}}[$__range]))", limits=((1, "red"),), decimals=0,
        ),
    ),
)  # fmt: skip

LIFE = Row(
    title="Life",
    panels=(
        states(
            "State", "State of each adapter: serving, inactive (stored, and answering no requests), or lost (its version is gone).",
            (
                f"max by (adapter) (2 * {state('serving')} or {state('inactive')} or 0 * {state('lost')})",
                "{{adapter}}",
            ),
            words=STATES,
        ),
        lines(
            "Versions in the engine", "short", "An adapter has two during a swap: the old version stays until no request runs on it.",
            (f"sum by (adapter) (ponder_adapter_versions_live{{{ADAPTER}}})", "{{adapter}}"), width=12, stacked=True,
        ),
        lines(
            "Swaps by adapter", "short",
            "Switches of a name to another version.", (events("ponder_adapter_swaps_total"), "{{adapter}}"), bars=True,
        ),
        lines(
            "Evictions by adapter", "short",
            "Idle versions that left the engine to make room. Many of them: more adapters are in use than PONDER_ADAPTER_SLOTS.",
            (events("ponder_adapter_evictions_total"), "{{adapter}}"), bars=True,
        ),
        lines(
            "Failures by adapter", "short", "Versions that the engine could not load; `other` are adapters that never served.",
            (events("ponder_adapter_failures_total"), "{{adapter}}"), bars=True,
        ),
        lines(
            "Load time, p95", "s", "Time to load a version into the engine, of the last hour.",
            (quantile(0.95, LOADS, ADAPTER, "adapter", "1h"), "{{adapter}}"), width=12,
        ),
        lines(
            "Leases", "short", "Requests that run on the adapter now. A replaced version is removed when its own requests have ended.",
            (f"sum by (adapter) (ponder_adapter_leases{{{ADAPTER}}})", "{{adapter}}"), width=12, stacked=True,
        ),
    ),
)  # fmt: skip

EACH = Row(
    title="Each adapter's work, and the base model's",
    panels=(
        lines(
            "Requests", "reqps", "Requests that ended per second.",
            (named(rate("ponder_requests_total", ADAPTER, "adapter")), "{{adapter}}"), stacked=True,
        ),
        lines(
            "Duration, p95", "s", "95 of 100 requests took no longer. Points are exemplars: single requests, with their traces.",
            (named(quantile(0.95, SECONDS, ADAPTER, "adapter")), "{{adapter}}"), exemplars=True,
        ),
        lines(
            "Duration, median", "s", "Half of the requests took no longer.",
            (named(quantile(0.5, SECONDS, ADAPTER, "adapter")), "{{adapter}}"), exemplars=True,
        ),
        lines(
            "Tokens decoded", "cps", "Tokens per second that each adapter generates.",
            (named(rate("ponder_tokens_total", f'{ADAPTER}, kind="decoded"', "adapter")), "{{adapter}}"), stacked=True,
        ),
        lines(
            "FLOPs", FLOPS, "FLOPs per second of each adapter, its LoRA layers included.",
            (named(rate("ponder_flops_total", ADAPTER, "adapter")), "{{adapter}}"), stacked=True,
        ),
        lines(
            "FLOPs per answer", FLOP, "FLOPs spent on all requests, divided by the requests that were answered.",
            (
                named(f"{rate('ponder_flops_total', ADAPTER, 'adapter')} / {answers(ADAPTER, 'adapter')}"),
                "{{adapter}}",
            ),
        ),
    ),
)  # fmt: skip

BOARD = Board(
    uid="ponder-adapters",
    title="ponder: adapters",
    description="State, swaps, leases, latency, tokens and FLOPs of each adapter.",
    rows=(NOW, LIFE, EACH),
    filters=("adapter",),
)
