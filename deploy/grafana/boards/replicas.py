"""The dashboard of a fleet: its replicas, as the front ends see them, and the front ends themselves."""

from boards.kit import FLOPS, SHARE, Board, Row, figure, lines, states

STATES = {"3": ("ready", "green"), "2": ("joining", "blue"), "1": ("leaving", "text"), "0": ("out", "red")}
FAILURES = "ponder_replica_failures"
OWN = 'replica!=""'
"""vLLM's metrics of replicas; those of an engine in the server's own process have no such label."""

HITS, QUERIES = (f"rate(vllm:prefix_cache_{what}_total{{{OWN}}}[$__rate_interval])" for what in ("hits", "queries"))


def state(names: str) -> str:
    """The query that is 1 for the replicas in one of these states, for each front end."""
    return f'ponder_replica_state{{state=~"{names}"}}'


def of_replica(expr: str) -> str:
    """The query of one of vLLM's values by replica. Every front end tells of all replicas, so the highest is taken, and no sum."""
    return f"max by (replica) (sum by (job, instance, replica) ({expr}))"


NOW = Row(
    title="Now",
    panels=(
        figure(
            "Ready", "short", "Replicas that take branches, by the front end that sees fewest. An alert watches for none.",
            f"min(count by (job, instance) ({state('ready')}))", limits=(), decimals=0,
        ),
        figure(
            "Known", "short", "Replicas that the front ends have found, whatever their state.",
            "count(count by (replica) (ponder_replica_state))", decimals=0,
        ),
        figure(
            "Branches on replicas", "short", "Branches that the replicas generate for all front ends.",
            "sum(ponder_replica_branches)", decimals=0,
        ),
        figure(
            "Slots", "short", "Branches that the replicas that are ready run at the same time.",
            "sum(max by (model) (ponder_branch_slots))", decimals=0,
        ),
        figure(
            "Failed", "short", "How often a replica failed for a front end, in the time that is shown.",
            f"sum(changes({FAILURES}[$__range]))", limits=((1, "orange"),), decimals=0,
        ),
        figure("Front ends", "short", "Front ends that answer Prometheus.", 'sum(up{job="ponder"})', decimals=0),
    ),
)  # fmt: skip

REPLICAS = Row(
    title="Replicas",
    panels=(
        states(
            "State of replicas", "What the front end says that has the worst to say of each replica.",
            (
                f"min by (replica) (3 * {state('ready')} or 2 * {state('joining')} or {state('leaving')} or 0 * {state('failed|unfit')})",
                "{{replica}}",
            ),
            words=STATES,
        ),
        lines(
            "Failures by replica", "short",
            "How often front ends found that a replica failed. Its branches go on elsewhere.",
            (f"sum by (replica) (changes({FAILURES}[$__rate_interval]))", "{{replica}}"), width=12, bars=True,
        ),
        lines(
            "Branches by replica", "short",
            "Branches that each replica generates. Those of one request are together, so small numbers differ.",
            ("sum by (replica) (ponder_replica_branches)", "{{replica}}"), stacked=True,
        ),
        lines(
            "Running and waiting by replica", "short",
            "Sequences as each replica's vLLM counts them. Front ends hand out slots themselves, so few wait.",
            (of_replica(f"vllm:num_requests_running{{{OWN}}}"), "{{replica}} running"),
            (of_replica(f"vllm:num_requests_waiting{{{OWN}}}"), "{{replica}} waiting"),
        ),
        lines(
            "Tokens by replica", "cps", "Tokens per second that each replica generates.",
            (of_replica(f"rate(vllm:generation_tokens_total{{{OWN}}}[$__rate_interval])"), "{{replica}}"), stacked=True,
        ),
        lines(
            "KV cache by replica", SHARE, "Share of the blocks in use. When it is full, vLLM preempts branches and computes them again.",
            (f"max by (replica) (vllm:kv_cache_usage_perc{{{OWN}}})", "{{replica}}"), top=1, limits=((0.8, "orange"), (0.95, "red")),
        ),
        lines(
            "Prefix cache hits by replica", SHARE,
            "Share of the prompt tokens that were found in the cache. It falls for a while when replicas come or go, since prompts move.",
            (f"{of_replica(HITS)} / {of_replica(QUERIES)}", "{{replica}}"),
            top=1,
        ),
    ),
)  # fmt: skip

FAILING = Row(
    title="What failures cost",
    panels=(
        lines(
            "Moved branches", "cps", "Branches per second that went on with another replica.",
            ('sum(rate(ponder_branches_total{state="moved"}[$__rate_interval]))', "moved"),
        ),
        lines(
            "Tokens computed again", "cps", "Tokens per second that a failed replica had computed already.",
            ('sum(rate(ponder_tokens_total{kind="recomputed"}[$__rate_interval]))', "recomputed"),
        ),
        lines(
            "FLOPs computed again", FLOPS, "FLOPs per second that a failed replica had spent already.",
            ('sum(rate(ponder_flops_total{kind="recompute"}[$__rate_interval]))', "recompute"),
        ),
    ),
)  # fmt: skip

FRONT_ENDS = Row(
    title="Front ends",
    panels=(
        lines(
            "Branches by front end", "short", "Branches that hold a slot, and branches that wait for one. Replicas are added by their sum.",
            ("sum by (instance) (ponder_branches_running)", "{{instance}} running"),
            ("sum by (instance) (ponder_branches_waiting)", "{{instance}} waiting"),
        ),
        lines(
            "Shared state", "short", "1 while a front end reaches the store that all share. An alert watches it.",
            ("ponder_shared_state_up", "{{instance}}"), top=1,
        ),
        lines(
            "Adapters behind", "short", "Adapters of which a front end serves an older version than was agreed on. An alert watches it.",
            ("sum by (instance) (ponder_adapter_behind)", "{{instance}}"),
        ),
    ),
)  # fmt: skip

BOARD = Board(
    uid="ponder-replicas",
    title="ponder: replicas",
    description="State, load and failures of the replicas of a fleet, and what its front ends share.",
    rows=(NOW, REPLICAS, FAILING, FRONT_ENDS),
    filters=(),
)
