"""What the process imports from which `tests.forked` forks."""

import importlib

from tests.forked import fork_vllm

for module in ("app.cli.__main__", "app.cli.server_process", "app.main", "app.engine.vllm.engine"):
    importlib.import_module(module)
fork_vllm()
