"""The process of `ponder serve`: engine, application and HTTP server, until a signal or the death of the engine."""

import asyncio
import errno
import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
from types import FrameType

import uvicorn
import uvloop
from fastapi import FastAPI

from app.engine.build import build_engine
from app.engine.worker import child_main
from app.settings import Settings
from strategies.plugins import load_registries

logger = logging.getLogger("ponder")


class PortUnavailable(Exception):
    """The server cannot listen on the address. The message is one line for the operator."""


class AnnouncingServer(uvicorn.Server):
    """An HTTP server that logs the address of the playground when it has started, and drains only what has started."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain; a second Ctrl-C ends the draining. During the start there are no requests, and loading a model is not waited for."""
        if not self.started:
            _end_at_once(sig, frame)
        # uvicorn's own method also keeps the signal, and raises it again at the end, which would end the process as a crash.
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then log the address with the port that was really taken: port 0 takes any free one."""
        await super().startup(sockets)
        app = self.config.app
        if self.started and sockets and hasattr(app, "state") and app.state.settings.playground:
            host, port = sockets[0].getsockname()[:2]
            shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(host, host)  # noqa: S104 - compared, not bound
            logger.info("the playground is at http://%s:%d/playground", shown, port)


def run_server(settings: Settings) -> int:
    """Serve until a signal or the death of the engine. Returns 1 when the engine died, else 0.

    Raises:
        ModelUnavailable: the model cannot be served as asked.
        PluginError: a plugin cannot be used.
        PortUnavailable: the address cannot be listened on.

    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end_at_once)
    sys.modules["__main__"].__spec__ = child_main.__spec__  # with this name, Python tells a new process what to import first
    # What may be wrong is found out before the engine starts, which takes minutes.
    registries = load_registries(settings.plugins)
    with _listening(settings.host, settings.port) as listener:
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})  # port 0 takes any free one
        engines = [build_engine(one) for one in settings.of_pools()]
        # vLLM reads environment variables that `build_engine` has set, so the application is imported after it.
        from app.main import create_app  # noqa: PLC0415

        died: list[str] = []

        def stop_after_engine_death(reason: str) -> None:
            died.append(reason)
            server.should_exit = True

        # The application asks the server whether it drains, but the server is made with the application.
        server_of: list[uvicorn.Server] = []
        app = create_app(
            settings,
            *engines,
            registries=registries,
            on_engine_death=stop_after_engine_death,
            is_draining=lambda: bool(server_of) and server_of[0].should_exit,
        )
        server = AnnouncingServer(
            uvicorn.Config(
                app, log_config=None, access_log=False, timeout_graceful_shutdown=int(settings.drain_seconds), lifespan="off"
            )
        )
        server_of.append(server)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(app, server, listener))
    return 1 if died else 0


async def _serve(app: FastAPI, server: uvicorn.Server, listener: socket.socket) -> None:
    # uvicorn's own handling of the lifespan would log an error of the start with its traceback, instead of raising it.
    async with app.router.lifespan_context(app):
        # vLLM and torch leave a million objects, through which each full collection goes, for a tenth of a second and more.
        gc.collect()
        gc.freeze()
        await server.serve(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to the address, and takes connections only when the server has started."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        hint = "; --port names another" if error.errno == errno.EADDRINUSE else ""
        raise PortUnavailable(f"cannot listen on {host}, port {port}: {error.strerror or error}{hint}") from error
    return listener


def _end_at_once(_number: int, _frame: FrameType | None) -> None:
    """End this process and vLLM's, which have promised nothing to anybody yet."""
    logger.info("stopped during the start")
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(0)
