"""Run benchmarks, print their tables, and write them to `benchmarks/results/`."""

import argparse

from benchmarks import (
    adapters,
    buckets,
    direct,
    easy_traffic,
    front_end,
    int8,
    large_fleet,
    on_ray,
    orchestration,
    prefix_hits,
    priorities,
    replicas,
    sampling,
    scrape,
    searches,
    shared_state,
    starts,
    swaps,
    tracing,
    watching,
)

ALL = {
    "starts": starts,
    "direct": direct,
    "sampling": sampling,
    "searches": searches,
    "priorities": priorities,
    "orchestration": orchestration,
    "adapters": adapters,
    "swaps": swaps,
    "int8": int8,
    "easy_traffic": easy_traffic,
    "tracing": tracing,
    "watching": watching,
    "scrape": scrape,
    "replicas": replicas,
    "front_end": front_end,
    "prefix_hits": prefix_hits,
    "large_fleet": large_fleet,
    "shared_state": shared_state,
    "on_ray": on_ray,
    "buckets": buckets,
}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a first impression that is not written")
    parser.add_argument("--only", choices=ALL, nargs="+", default=list(ALL), help="which to run")
    arguments = parser.parse_args()
    for name in arguments.only:
        print(f"{name} …", flush=True)
        table = ALL[name].run(is_quick=arguments.quick)
        if not arguments.quick:
            table.save()
        print(table.markdown(), "\n", flush=True)


if __name__ == "__main__":
    main()
