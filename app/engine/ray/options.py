"""How Ray and its replicas are run. Imports nothing else, since Ray reads its environment when it is imported."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOptions:
    """What an operator can set of replicas on Ray.

    Attributes:
        min_replicas: that there are always.
        max_replicas: that there may be.
        target_branches: of a replica, running and waiting, above which another one is started.
        idle_seconds: with too few branches, after which a replica is stopped.
        drain_seconds: that the branches of a replica may take to end when it is stopped.
        num_cpus: processors of a replica.
        num_gpus: GPUs of a replica, all on one machine.
        look_back_seconds: whose highest number of branches counts. Ray Serve wants more than 10.

    """

    min_replicas: int
    max_replicas: int
    target_branches: int
    idle_seconds: float
    drain_seconds: float
    num_cpus: int
    num_gpus: int
    look_back_seconds: float = 11


def variables(*, is_own: bool) -> Mapping[str, str]:
    """Return what Ray must find in its environment, where the operator has not set it.

    Args:
        is_own: whether a Ray is to be started, and not joined.

    """
    always = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_AUTO_CONNECT": "0",  # a call after the end would start another Ray
    }
    if not is_own:
        return always
    return always | {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray listens on the loopback interface alone where it makes no clusters
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),  # in place of one that Ray keeps in a file
        "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "2",
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",  # with Ray's own tenth of a second, it takes processor time from the engine
    }
