"""Ends vLLM's processes when the server's process ends, however it ends: `kill -9` runs no code that could end them.

vLLM calls `watch_server` in each of its processes, as a plugin (`vllm.general_plugins` in pyproject.toml). Its worker processes watch
their engine process already, but nothing watches the server.
"""

import os
import select
import signal
import threading

from app.engine.worker.failures import report_failures

SERVER_PID = "PONDER_SERVER_PID"
"""The variable with the id of the server's process, which its children inherit. Without it nothing is watched."""


def watch_server() -> None:
    """Begin to watch the server in a thread, and to tell it of failures.

    Does nothing in the server itself, and in processes of other programs.
    """
    server = os.environ.get(SERVER_PID)
    if server is not None and int(server) != os.getpid():
        report_failures()
        threading.Thread(target=_end_with, args=(int(server),), name="server-watch", daemon=True).start()


def _end_with(server: int) -> None:
    try:
        descriptor = os.pidfd_open(server)
    except ProcessLookupError:  # it ended before this process came so far
        pass
    except OSError:  # the kernel has no such descriptors
        return
    else:
        select.select([descriptor], [], [])  # a descriptor of a process is readable when the process has ended
    os.kill(os.getpid(), signal.SIGKILL)
