"""The time until a server is ready: ponder and vLLM's own server with the same model and flags, started in turn."""

import statistics
import time

from benchmarks import servers
from benchmarks.report import Table


def run(*, is_quick: bool) -> Table:
    """Start each as often as the other, and the other first in the next round. Ratios are taken within a round.

    vLLM's server runs without LoRA, so ponder has no adapter slots here. The first round, which is not counted, converts the model
    and reads the files of both from the disk.
    """
    kinds = {"ponder": lambda: servers.ponder("--adapter-slots", "0"), "vllm": servers.vllm}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(2 if is_quick else 6):
        for name in kinds if number % 2 else reversed(kinds):
            start = time.perf_counter()
            with kinds[name]():
                seconds[name].append(time.perf_counter() - start)
    pairs = list(zip(seconds["ponder"][1:], seconds["vllm"][1:], strict=True))
    ratios = [ours / theirs for ours, theirs in pairs]
    row = {
        "rounds": len(pairs),
        "ponder s": round(statistics.median(ours for ours, _ in pairs), 1),
        "vLLM s": round(statistics.median(theirs for _, theirs in pairs), 1),
        "ratio": round(statistics.median(ratios), 2),
        "least": round(min(ratios), 2),
        "largest": round(max(ratios), 2),
    }
    return Table("starts", "From the command until the server is ready (medians of rounds)", rows=[row])
