"""The whole server as an application of Ray Serve: front ends, and the replicas that generate for them.

    serve run ponder.on_ray:build model=smollm2-135m ray_max_replicas=2

`ponder serve --ray` is the same with one front end, which is the command itself.
"""

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

from app.engine.build import engines_on_ray, over_deployment
from app.logs import configure_logging
from app.settings import read_settings


def build(args: Mapping[str, Any]) -> Any:
    """Return the application.

    Args:
        args: settings of `ponder serve`, with underscores. Keys are not among them: each machine has them in its environment, or in the
            files of `/run/secrets`.

    """
    from app.engine.ray.deployment import front_ends  # noqa: PLC0415 - comes with an extra

    given = {**args, "ray": True}
    return front_ends(partial(_app, given), engines_on_ray(read_settings(given)))


def _app(args: Mapping[str, Any], engines: Any) -> Any:
    """Return the app of one front end over the deployment of the engines."""
    settings = read_settings(args)
    configure_logging(settings.log_level, settings.log_format)
    engine = over_deployment(settings, lambda: engines)
    # vLLM reads environment variables that have been set only now.
    from app.main import create_app  # noqa: PLC0415

    return create_app(settings, engine, on_engine_death=lambda _reason: os._exit(1))  # Ray Serve starts another one
