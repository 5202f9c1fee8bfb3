"""`ponder serve`: from the settings to a running server."""

import sys

from app.cli.client import exit_with_error
from app.cli.model_options import takes_options
from app.logs import configure_logging
from app.settings import ENV_PREFIX, Settings, read_settings


@takes_options(Settings, read=read_settings, env_prefix=ENV_PREFIX, argument="model")
def serve(settings: Settings) -> None:
    """Serve a model over the OpenAI API.

    Each option can also be set by the environment variable beside it; the option wins. All other options go to vLLM's engine, such as
    `--tensor-parallel-size 2`; the model is then the first word.
    """
    # Imported only now: the help page and shell completion must not wait for the server's libraries.
    from app.cli.server_process import PortUnavailable, run_server  # noqa: PLC0415
    from app.engine.weights.conversions import ModelUnavailable  # noqa: PLC0415
    from strategies.registry import PluginError  # noqa: PLC0415

    configure_logging(settings.log_level, settings.log_format)
    try:
        status = run_server(settings)
    except (ModelUnavailable, PluginError, PortUnavailable) as error:
        exit_with_error(error)
    sys.exit(status)
