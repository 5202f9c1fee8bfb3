"""Starts the servers that are measured: ponder as its users start it, and vLLM's own with the same model and flags."""

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from adapters.training.errors import MachineRefused
from app.engine import hardware
from app.engine.weights.default_model import ensure_default_model
from app.lab.server import free_port, running
from app.settings import Settings

MODEL = "smollm2-135m"
KV_GIB = 2


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        pid: of its first process.

    """

    name: str
    url: str
    pid: int


def memory_mib(server: Server) -> float:
    """Return the resident memory of all processes of a server. A page that processes share counts once for each of them."""
    process = psutil.Process(server.pid)
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 2**20


def processor_seconds(server: Server) -> float:
    """Return the processor time of a server's first process so far, without its engine's."""
    times = psutil.Process(server.pid).cpu_times()
    return float(times.user + times.system)


@contextmanager
def _running(name: str, command: list[str], port: int, health: str, environment: dict[str, str]) -> Iterator[Server]:
    url = f"http://127.0.0.1:{port}"
    log = Path(f"/tmp/ponder-bench-{name.replace(' ', '-')}.log")
    start = time.monotonic()
    try:
        with running(command, url + health, log, environment) as pid:
            print(f"  {name} is ready after {time.monotonic() - start:.0f} s", flush=True)
            yield Server(name, url, pid)
    except MachineRefused as error:
        sys.exit(f"{name}: {error}")


@contextmanager
def ponder(*arguments: str, name: str = "ponder", kv_gib: int = KV_GIB) -> Iterator[Server]:
    """Run `ponder serve` with the embedded model until the end of the block."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "ponder"), "serve", "--port", str(port), "--kv-cache-gib", str(kv_gib)]
    with tempfile.TemporaryDirectory() as adapters:
        command += ["--log-level", "warning", "--adapter-dir", adapters, "--no-shipped-adapters", *arguments]
        with _running(name, command, port, "/ready", {}) as server:
            yield server


@contextmanager
def vllm(adapters: Mapping[str, Path] | None = None, max_rank: int = 16) -> Iterator[Server]:
    """Run vLLM's own OpenAI server until the end of the block.

    It has everything that ponder chooses for the machine. Its adapters are loaded at the start.
    """
    plan = hardware.plan_cpu()
    port = free_port()
    model = ensure_default_model(Settings().cache_dir.expanduser(), print)
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--served-model-name", MODEL,
        "--port", str(port), "--host", "127.0.0.1", "--dtype", plan.dtype, "--max-num-seqs", "64", "--block-size", "32",
        "--enforce-eager", "--enable-prefix-caching", "--scheduling-policy", "priority", "--enable-auto-tool-choice",
        "--tool-call-parser", "hermes", "--enable-prompt-tokens-details", "--enable-scale-out", "--disable-uvicorn-access-log",
    ]  # fmt: skip
    if adapters:
        command += ["--enable-lora", "--max-loras", str(len(adapters)), "--max-lora-rank", str(max_rank), "--lora-modules"]
        command += [f"{name}={folder}" for name, folder in adapters.items()]
    environment = plan.environment() | {
        "VLLM_CPU_KVCACHE_SPACE": str(KV_GIB),
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with _running("vllm", command, port, "/health", environment) as server:
        yield server
