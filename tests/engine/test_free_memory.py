"""What Linux tells of memory, in and out of control groups."""

from pathlib import Path

import pytest

from app.engine.free_memory import free_bytes, oom_kills
from app.engine.memory import GIB


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """The files of a machine with 8 GiB of free memory."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n")
    (tmp_path / "proc/vmstat").write_text("oom_kill 7\n")
    return tmp_path


def group(folder: Path, **files: object) -> None:
    """Write the files of a control group; `_` in a name stands for its first dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_", ".", 1)).write_text(f"{content}\n")


def test_a_machine_without_groups(system: Path) -> None:
    """The machine's own numbers count."""
    assert free_bytes(system) == 8 * GIB
    assert oom_kills(system) == 7


def test_limits_of_groups_of_version_2(system: Path) -> None:
    """Also of groups around the process's own. Files that the kernel keeps in memory are free."""
    (system / "proc/self").mkdir()
    (system / "proc/self/cgroup").write_text("0::/outer/inner\n")
    group(system / "sys/fs/cgroup/outer/inner", memory_max="max", memory_current=GIB, memory_events="oom 3\noom_kill 2")
    group(system / "sys/fs/cgroup/outer", memory_max=6 * GIB, memory_current=3 * GIB, memory_stat=f"inactive_file {GIB}")
    assert free_bytes(system) == 4 * GIB
    assert oom_kills(system) == 2


def test_limits_of_groups_of_version_1_in_a_container(system: Path) -> None:
    """Its path is one outside of the container, and the mounted folder is its own group."""
    (system / "proc/self").mkdir()
    (system / "proc/self/cgroup").write_text("5:cpu:/docker/x\n4:memory:/docker/x\n")
    files: dict[str, object] = {
        "memory_limit_in_bytes": 2 * GIB,
        "memory_usage_in_bytes": GIB,
        "memory_oom_control": "oom_kill 1",
    }
    group(system / "sys/fs/cgroup/memory", **files)
    assert free_bytes(system) == GIB
    assert oom_kills(system) == 1


def test_this_machine_has_memory() -> None:
    """Reading the real files of any machine gives numbers."""
    assert free_bytes() > 0
    assert oom_kills() >= 0
