"""Looks at this machine and chooses how vLLM's CPU back end should use it.

It reads files of the system and imports neither torch nor vLLM, since what it chooses must be in the environment before those are
imported.
"""

import os
import sysconfig
from dataclasses import dataclass
from pathlib import Path

BF16_FLAGS = ("avx512_bf16", "amx_bf16")
"""Flags in /proc/cpuinfo of processors with bfloat16 instructions."""

PRELOADS = ("libtcmalloc_minimal.so.4", "libiomp5.so")
"""An allocator and an OpenMP runtime with which vLLM is faster. The second is in the wheel `intel-openmp`."""


@dataclass(frozen=True, slots=True)
class CpuPlan:
    """How vLLM should use this machine's processor.

    Attributes:
        dtype: number format of weights and activations. Without bfloat16 instructions float32 is up to 4.6 times faster (measured
            with SmolLM2-135M at 64 branches).
        cpus: all processors that this process may use, in vLLM's notation ("0-2,5").
        preloads: paths of shared libraries for `LD_PRELOAD`.
        reason: why this number format, for the log.

    """

    dtype: str
    cpus: str
    preloads: tuple[str, ...] = ()
    reason: str = ""

    def environment(self, inherited_preload: str = "") -> dict[str, str]:
        """Return the variables that vLLM's processes must find in their environment when they start."""
        preloads = [*self.preloads, *inherited_preload.split(":")]
        return {
            "VLLM_CPU_OMP_THREADS_BIND": self.cpus,
            "LD_PRELOAD": ":".join(preload for preload in preloads if preload),
        }

    def describe(self) -> str:
        """Return the plan as one line for the log."""
        preloads = ", ".join(Path(preload).name for preload in self.preloads) or "nothing"
        return f"CPU: {self.dtype} ({self.reason}), processors {self.cpus}, preloaded: {preloads}"


def plan_cpu(*, cpuinfo: str | None = None, cpus: set[int] | None = None, folders: list[Path] | None = None) -> CpuPlan:
    """Return the plan for this machine. Tests pass arguments in place of what is read from the machine."""
    flags = _flags(cpuinfo)
    found = next((flag for flag in BF16_FLAGS if flag in flags), None)
    return CpuPlan(
        dtype="bfloat16" if found else "float32",
        cpus=_ranges(os.sched_getaffinity(0) if cpus is None else cpus),
        preloads=tuple(_preloads(_library_folders() if folders is None else folders)),
        reason=f"the processor has {found}" if found else "the processor computes no bfloat16 itself",
    )


def cpu_shares(ranks: int, cpus: set[int] | None = None) -> str:
    """Return equal shares of this process's processors for `ranks` workers, in vLLM's notation ("0-1|2-3").

    Workers share processors where there are fewer of them than workers.
    """
    ids = sorted(os.sched_getaffinity(0) if cpus is None else cpus)
    size = max(1, len(ids) // ranks)
    starts = (rank * size % len(ids) for rank in range(ranks))
    return "|".join(_ranges(set(ids[start : start + size])) for start in starts)


def share_of_processors(number: int, size: int, cpus: set[int] | None = None) -> set[int]:
    """Return `size` of this thread's processors, others for each number from 0 on as long as there are enough."""
    ids = sorted(os.sched_getaffinity(0) if cpus is None else cpus)
    return {ids[(number * size + place) % len(ids)] for place in range(min(size, len(ids)))}


def has_amx(cpuinfo: str | None = None) -> bool:
    """Whether the processor has instructions for products of 8-bit matrices (AMX)."""
    return "amx_int8" in _flags(cpuinfo)


def num_processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0))


def has_nvidia_gpu() -> bool:
    """Whether an NVIDIA driver is loaded."""
    return Path("/proc/driver/nvidia/version").exists()


def _flags(cpuinfo: str | None) -> set[str]:
    return set((_read("/proc/cpuinfo") if cpuinfo is None else cpuinfo).split())


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _ranges(cpus: set[int]) -> str:
    """Write a set of processors as ranges: {0, 1, 2, 5} as "0-2,5"."""
    ranges: list[list[int]] = []
    for cpu in sorted(cpus):
        if ranges and cpu == ranges[-1][1] + 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _library_folders() -> list[Path]:
    environment = Path(sysconfig.get_path("data")) / "lib"
    return [environment, *map(Path, ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"))]


def _preloads(folders: list[Path]) -> list[str]:
    found = (next((folder / name for folder in folders if (folder / name).exists()), None) for name in PRELOADS)
    return [str(path) for path in found if path is not None]
