"""The choices for vLLM's CPU back end: number format, processors, memory and preloaded libraries."""

from pathlib import Path

import pytest

from app.engine.hardware import cpu_shares, plan_cpu


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ("fpu avx2 avx512f avx512_bf16", "bfloat16"),
        ("avx2 amx_bf16", "bfloat16"),
        ("fpu avx2 avx512f", "float32"),
        ("", "float32"),
    ],
)
def test_the_number_format_follows_the_processor(flags: str, dtype: str) -> None:
    """It is bfloat16 only where the processor computes it; elsewhere bfloat16 is several times slower than float32."""
    plan = plan_cpu(cpuinfo=f"flags\t\t: {flags}\n", cpus={0}, folders=[])
    assert plan.dtype == dtype
    assert dtype in plan.describe()


@pytest.mark.parametrize(("cpus", "text"), [({0, 1}, "0-1"), ({3}, "3"), ({0, 1, 2, 5, 7, 8}, "0-2,5,7-8")])
def test_all_processors_of_the_process_are_used(cpus: set[int], text: str) -> None:
    """The default of vLLM leaves one idle."""
    plan = plan_cpu(cpuinfo="", cpus=cpus, folders=[])
    assert plan.environment()["VLLM_CPU_OMP_THREADS_BIND"] == text


def test_libraries_that_speed_vllm_up_are_preloaded_where_present(tmp_path: Path) -> None:
    """They come before libraries that were preloaded already."""
    library = tmp_path / "libiomp5.so"
    library.touch()
    plan = plan_cpu(cpuinfo="", cpus={0}, folders=[tmp_path / "missing", tmp_path])
    assert plan.environment("other.so")["LD_PRELOAD"] == f"{library}:other.so"
    assert "libiomp5.so" in plan.describe()


def test_this_machine_has_a_plan() -> None:
    """Reading the real files of any machine gives a plan."""
    assert plan_cpu().cpus


@pytest.mark.parametrize(
    ("ranks", "cpus", "shares"),
    [(2, {0, 1}, "0|1"), (2, {0, 1, 2, 5}, "0-1|2,5"), (3, {0, 1, 2, 3}, "0|1|2"), (3, {0, 1}, "0|1|0"), (1, {0, 1}, "0-1")],
)
def test_workers_get_equal_shares_of_the_processors(ranks: int, cpus: set[int], shares: str) -> None:
    """Two workers may share one where there are not enough."""
    assert cpu_shares(ranks, cpus) == shares
