"""`ponder`, or `vllm`, in a process that is forked from one which has imported vLLM: importing it takes longer than all else of a start.

It runs the command as `pip` installs it, with its own environment, output and exit status. vLLM's processes are forked too.
"""

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest import mock


class Forked:
    """What tests use of `subprocess.Popen`."""

    def __init__(self, program: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        from app.engine.build import QUIET
        from app.engine.hardware import plan_cpu

        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.forked_imports"])
        read_at_import = {**QUIET, **plan_cpu().environment(), "HF_HUB_OFFLINE": "1", "VLLM_MAX_STOP_STRINGS": "64"}
        with mock.patch.dict(os.environ, {**environment, **read_at_import}, clear=True):
            forkserver.ensure_running()
        self._process = context.Process(target=_run, args=(program, tuple(arguments), log, dict(environment)))
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (status := self.poll()) is None:
            raise subprocess.TimeoutExpired("the server", timeout)
        return status

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(program: str, arguments: tuple[str, ...], log: Path, environment: dict[str, str]) -> None:
    """Become the command. `CPUS` in its environment are the processors that it may use."""
    with log.open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    if cpus := environment.get("CPUS"):
        os.sched_setaffinity(0, {int(cpus)})
        import torch

        torch.set_num_threads(1)
    sys.argv = [program, *arguments]
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    if program == "vllm":
        # vLLM's server reads it when it is imported, which it was before this process was forked.
        from vllm.entrypoints.launchers.api_server.entry import main
    else:
        from app.cli.__main__ import main
    main()


def fork_vllm() -> None:
    """Import vLLM, and let it fork its processes, as it does on GPUs, and look at model classes in this one.

    Its CPU back end starts processes anew for the threads of OpenMP, which do not survive a fork. This process has none.
    """
    import torch
    import vllm.plugins
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.models import registry

    for module in ("vllm.v1.engine.core", "vllm.v1.executor.multiproc_executor", "vllm.v1.worker.cpu_worker"):
        importlib.import_module(module)
    torch.set_num_threads(1)
    registry._run_in_subprocess = lambda look: look()
    processors = os.sched_getaffinity(0)

    def settle() -> None:
        """Load vLLM's plugins anew, and take the processors and threads that vLLM gives to the process."""
        vllm.plugins.plugins_loaded = False
        os.sched_setaffinity(0, processors)
        if threads := os.environ.get("OMP_NUM_THREADS"):
            torch.set_num_threads(int(threads))

    os.register_at_fork(after_in_child=settle)
    create = EngineArgs.create_engine_config

    def create_and_fork(self: EngineArgs, *args: Any, **kwargs: Any) -> Any:
        config = create(self, *args, **kwargs)
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
        return config

    EngineArgs.create_engine_config = create_and_fork
