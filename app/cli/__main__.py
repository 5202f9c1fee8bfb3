"""The `ponder` command."""

import asyncio
import logging
import signal
import socket
import sys

import typer
import uvicorn
import uvloop

from app.cli import adapters as adapters_cli
from app.cli import ask as ask_cli
from app.cli import calibrate as calibrate_cli
from app.cli import train as train_cli
from app.engine.build import build_engine
from app.engine.weights.conversions import ModelUnavailable
from app.logs import configure_logging
from app.settings import BadOptions, Settings, read_settings
from strategies.plugins import load_registries
from strategies.registry import PluginError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Think as hard as each question deserves.",
)
app.add_typer(adapters_cli.app, name="adapters")
app.add_typer(train_cli.app, name="train")
app.command()(ask_cli.ask)
app.command()(ask_cli.explain)
app.command(**train_cli.PASSED_ON)(train_cli.prune)
app.command(**train_cli.PASSED_ON)(calibrate_cli.calibrate)
logger = logging.getLogger("ponder")


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True}, add_help_option=False)
def serve(context: typer.Context) -> None:
    """Serve the OpenAI API. `ponder serve --help` lists every setting; each is a PONDER_… variable too."""
    try:
        settings = read_settings(context.args)
        configure_logging(settings.log_level, settings.log_format)
        status = _serve(settings)
    except (BadOptions, ModelUnavailable, PluginError) as error:
        sys.exit(f"ponder: {error}")
    sys.exit(status)


class _Server(uvicorn.Server):
    """Says where to look once there is something to see."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Announce the page, at the port that was really taken."""
        await super().startup(sockets)
        app = self.config.app
        if self.started and hasattr(app, "state") and app.state.settings.playground:
            port = self.servers[0].sockets[0].getsockname()[1]
            host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(self.config.host, self.config.host)  # noqa: S104 - compared, not bound
            logger.info("the playground is at http://%s:%d/playground", host, port)


def _serve(settings: Settings) -> int:
    """Run until told to stop; 1 when the engine died."""
    from app.main import create_app  # noqa: PLC0415 - vLLM reads the environment that `build_engine` prepares

    registries = load_registries(settings.plugins)  # before the engine, which takes minutes to start
    engine = build_engine(settings)
    died: list[str] = []

    def end(reason: str) -> None:
        died.append(reason)
        server.should_exit = True

    server_of: list[uvicorn.Server] = []
    asgi = create_app(
        settings,
        engine,
        registries=registries,
        on_engine_death=end,
        is_draining=lambda: bool(server_of) and server_of[0].should_exit,
    )
    server = _Server(
        uvicorn.Config(
            asgi,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=int(settings.drain_seconds),
            lifespan="on",
        )
    )
    server_of.append(server)
    for stop in (signal.SIGTERM, signal.SIGINT):
        # uvicorn drains on these and then raises them again, for whoever handled them before: nobody, or the exit would be a crash.
        signal.signal(stop, lambda _number, _frame: None)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve())
    return 1 if died or not server.started else 0


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
