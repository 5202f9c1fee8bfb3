"""The classes that vLLM mixes into its workers."""

import subprocess
import sys


def test_importing_them_does_not_import_vllm() -> None:
    """The server's process imports them for their path, and vLLM reads its environment when it is imported."""
    script = (
        "import sys, app.engine.worker.extension; print([name for name in sys.modules if name.partition('.')[0] == 'vllm'])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert run.stdout == "[]\n", run.stderr
