"""What `ponder replica` asks of vLLM's server, without starting it."""

import os

import pytest

from app.engine.hardware import cpu_shares
from app.engine.vllm.cpu_memory import share_processors
from app.engine.vllm.options import EngineOptions
from app.engine.vllm.replica_server import program_of, server_arguments
from app.engine.weights.default_model import ensure_default_model
from app.settings import ReplicaSettings, Settings

pytestmark = pytest.mark.vllm


def arguments(*words: str, drain_seconds: float = 7.5):
    """The arguments of a server with these options of vLLM's engine."""
    model = str(ensure_default_model(Settings().cache_dir.expanduser(), print))  # one that vLLM need not look up on a hub
    options = EngineOptions(model=model, name="m", engine_args=words)
    return server_arguments(options, ReplicaSettings(drain_seconds=drain_seconds, api_keys="k"))


def test_running_branches_may_end_as_at_a_server() -> None:
    """Within the seconds of the same setting, unless an option of vLLM's names others."""
    assert arguments().shutdown_timeout == 8
    assert arguments(drain_seconds=0).shutdown_timeout == 0
    assert arguments("--shutdown-timeout", "3").shutdown_timeout == 3


@pytest.mark.parametrize(
    ("words", "ranks"),
    [
        (("--tensor-parallel-size", "2"), 2),
        (("--tensor-parallel-size", "2", "--pipeline-parallel-size", "2", "--nnodes", "2"), 2),
        (("--tensor-parallel-size", "2", "--nnodes", "2"), 1),
    ],
)
def test_ranks_of_one_node_share_its_processors(monkeypatch, words: tuple[str, ...], ranks: int) -> None:
    """Those of other nodes have processors of their own."""
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", cpu_shares(1))
    share_processors(arguments(*words))
    assert os.environ["VLLM_CPU_OMP_THREADS_BIND"] == cpu_shares(ranks)


def test_the_first_of_several_nodes_serves_and_the_others_compute_for_it() -> None:
    """With the same command, but for the number of the node."""
    words = ("--tensor-parallel-size", "2", "--nnodes", "2", "--node-rank")
    serve = program_of(arguments())
    assert program_of(arguments(*words, "0")) is serve
    assert program_of(arguments(*words, "1")) is not serve
