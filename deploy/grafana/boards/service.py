"""The dashboard of the service: traffic, errors, latency, and how full the engine is."""

from boards.kit import SHARE, STRATEGY, Board, Row, figure, heat_map, lines, mean, quantile, rate

SECONDS = "ponder_request_seconds"
FIRST_TOKEN = "ponder_time_to_first_token_seconds"  # noqa: S105 - a metric's name
TOTAL = f'{STRATEGY}, phase="total"'
PARTS = f'{STRATEGY}, phase!~"total|first_token"'
BY_PHASE = f"job_strategy_phase:ponder_request_seconds:p95_rate5m{{{PARTS}}}"


def once(metric: str) -> str:
    """The query of the sum of one of vLLM's gauges. Every front end tells of all replicas; each is counted once."""
    return f'sum(max by (job, replica, engine) ({metric}{{replica!=""}}) or {metric}{{replica=""}})'


NOW = Row(
    title="Now",
    panels=(
        figure(
            "Up for", "s", "Time since the replica that was started last began to serve. An alert watches starts.",
            "time() - max(ponder_start_time_seconds)", decimals=0,
        ),
        figure("Requests", "reqps", "Requests that ended per second, however they ended.", rate("ponder_requests_total", STRATEGY)),
        figure(
            "Failed", SHARE,
            "Share of the requests of the last five minutes that the server failed: errors and a dead engine. An "
            "alert watches it.",
            "max(job:ponder_requests_failed:ratio_rate5m)", limits=((0.01, "orange"), (0.05, "red")), decimals=1,
        ),
        figure(
            "Duration, p95", "s", "95 of 100 requests took no longer than this.", quantile(0.95, SECONDS, TOTAL),
            limits=((30, "orange"), (120, "red")),
        ),
        figure(
            "First token, p95", "s",
            "95 of 100 streamed direct answers began before this. Answers of other strategies are sent when they are complete.",
            quantile(0.95, FIRST_TOKEN, STRATEGY), limits=((10, "orange"), (60, "red")),
        ),
        figure(
            "Load", SHARE, "Branches admitted, as a share of the most that can be; at 100 % requests are refused with 503.",
            "max(ponder_load_ratio)", limits=((0.7, "orange"), (0.95, "red")), decimals=0,
        ),
    ),
)  # fmt: skip

TRAFFIC = Row(
    title="Traffic",
    panels=(
        lines(
            "Requests by strategy", "reqps", "Requests that ended per second. `auto` counts as the strategy that it chose.",
            (rate("ponder_requests_total", STRATEGY, "strategy"), "{{strategy}}"), stacked=True,
        ),
        lines(
            "Requests by outcome", "reqps",
            "`refused` and `cancelled` are the caller's doing; `failed` and `engine_dead` the server's.",
            (rate("ponder_requests_total", STRATEGY, "outcome"), "{{outcome}}"), stacked=True,
            colours={"completed": "green", "cancelled": "blue", "refused": "yellow", "failed": "red", "engine_dead": "dark-red"},
        ),
        lines(
            "Rejections by reason", "reqps",
            "Requests refused before they ran. `overload` and `adapter_slots`: the server was full. `quota`: a key had too many "
            "branches running. `adapter`: the adapter could not be served.",
            ("sum by (reason) (rate(ponder_rejections_total[$__rate_interval]))", "{{reason}}"), stacked=True,
        ),
    ),
)  # fmt: skip

LATENCY = Row(
    title="Latency",
    panels=(
        lines(
            "Duration by strategy, p95", "s",
            "From the request's arrival to its end. Points are exemplars: single requests, with their traces.",
            (quantile(0.95, SECONDS, TOTAL, "strategy"), "{{strategy}}"), exemplars=True,
        ),
        lines(
            "Duration by strategy, median", "s", "Half of the requests took no longer.",
            (quantile(0.5, SECONDS, TOTAL, "strategy"), "{{strategy}}"), exemplars=True,
        ),
        heat_map("Durations", "s", "How many requests took how long.", SECONDS, TOTAL),
        lines(
            "Where the time goes", "s",
            "Mean seconds in each phase, of the requests that went through it: choosing a plan, rendering the prompt, waiting for an "
            "adapter, the search, and within the search waiting for a slot (`queue`), which grows first when the server is too small.",
            (mean(SECONDS, PARTS, "phase"), "{{phase}}"),
        ),
        lines(
            "Duration by phase, median", "s", "Half of the requests that went through the phase took no longer in it.",
            (quantile(0.5, SECONDS, STRATEGY, "phase"), "{{phase}}"), exemplars=True,
        ),
        lines(
            "First token by strategy", "s",
            "95 of 100, and half, of the streamed direct answers began before this. Other answers are sent when they are complete.",
            (quantile(0.95, FIRST_TOKEN, STRATEGY, "strategy"), "{{strategy}} p95"),
            (quantile(0.5, FIRST_TOKEN, STRATEGY, "strategy"), "{{strategy}} p50"), exemplars=True,
        ),
        lines(
            "Duration by strategy and phase, p95", "s",
            "95 of 100 requests of the strategy that went through the phase took no longer in it, of five minutes.",
            (f"max by (strategy, phase) ({BY_PHASE})", "{{strategy}}: {{phase}}"), width=24,
        ),
    ),
)  # fmt: skip

ENGINE = Row(
    title="Engine",
    panels=(
        lines(
            "Requests in flight", "short", "Requests that were admitted and have not ended; each has many branches.",
            ("sum(ponder_requests_in_flight)", "in flight"),
        ),
        lines(
            "Branches", "short", "Branches that hold a slot of the engine, branches that wait for one, and the number of slots.",
            ("sum(ponder_branches_running)", "running"), ("sum(ponder_branches_waiting)", "waiting"),
            ("sum(ponder_branch_slots)", "slots"), colours={"running": "green", "waiting": "orange", "slots": "text"},
        ),
        lines(
            "Load by replica", SHARE, "Branches admitted, running or waiting, as a share of the most that can be.",
            ("ponder_load_ratio", "{{instance}} {{model}}"), top=1, limits=((0.7, "orange"), (0.95, "red")),
        ),
        lines(
            "KV cache", SHARE, "Share of the blocks in use. When it is full, vLLM preempts branches and computes them again.",
            ("instance:vllm_kv_cache_usage:max", "{{instance}}"), top=1, limits=((0.8, "orange"), (0.95, "red")),
        ),
        lines(
            "vLLM's queue", "short", "Sequences as vLLM counts them. Ponder hands out slots itself, so few wait here.",
            (once("vllm:num_requests_running"), "running"), (once("vllm:num_requests_waiting"), "waiting"),
            colours={"running": "green", "waiting": "orange"},
        ),
        lines(
            "Prefix cache hits", SHARE,
            "Share of the prompt tokens that vLLM found in its cache: branches of one request share their prompt.",
            (f"{rate('vllm:prefix_cache_hits_total', '')} / {rate('vllm:prefix_cache_queries_total', '')}", "hits"),
            top=1,
        ),
        lines(
            "Servers", "short",
            "Servers that Prometheus looks for, servers that answered its last scrape, and servers whose engine lives. A dead "
            "engine ends its process.",
            ('count(up{job="ponder"})', "known"), ('sum(up{job="ponder"})', "answering"), ("sum(ponder_engine_up)", "engine up"),
            width=12, colours={"known": "text", "answering": "green", "engine up": "blue"},
        ),
        lines(
            "Restarts", "short", "How often each server was started anew in the fifteen minutes before. An alert watches it.",
            ("changes(ponder_start_time_seconds[15m])", "{{instance}}"), width=12,
        ),
    ),
)  # fmt: skip

BOARD = Board(
    uid="ponder-service",
    title="ponder: service",
    description="Traffic, errors, latency by strategy and phase, and how full the engine is.",
    rows=(NOW, TRAFFIC, LATENCY, ENGINE),
    filters=("strategy",),
)
