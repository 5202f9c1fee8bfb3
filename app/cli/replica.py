"""`ponder replica`: generates tokens for `ponder serve --replica`."""

from app.cli.client import exit_with_error
from app.cli.model_options import takes_options
from app.logs import configure_logging
from app.settings import ENV_PREFIX, ReplicaSettings, read_replica_settings


@takes_options(ReplicaSettings, read=read_replica_settings, env_prefix=ENV_PREFIX, argument="model")
def replica(settings: ReplicaSettings) -> None:
    """Generate tokens for front ends (`ponder serve --replica URL`).

    This is vLLM's own server, with the engine that `ponder serve` would start. All other options go to vLLM's engine, such as
    `--tensor-parallel-size 2`; the model is then the first word.
    """
    # Imported only now: the help page must not wait for it.
    from app.engine.build import run_replica  # noqa: PLC0415
    from app.engine.weights.conversions import ModelUnavailable  # noqa: PLC0415

    configure_logging(settings.log_level, settings.log_format)
    try:
        run_replica(settings)
    except ModelUnavailable as error:
        exit_with_error(error)
