"""What Linux tells of memory: what is free within the limits of this process, and how many processes it has ended for lack of it."""

from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def free_bytes(system: Path = Path("/")) -> int:
    """Return the free memory of the machine, or what the limits of this control group leave, whichever is less."""
    lines = dict(line.split(":", 1) for line in _read(system / "proc/meminfo").splitlines() if ":" in line)
    free = int(lines.get("MemAvailable", "4194304 kB").split()[0]) * 1024
    for folder in _control_groups(system):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            allowed, taken = _read(folder / limit).strip(), _read(folder / used).strip()
            if allowed.isdecimal() and taken.isdecimal():
                # The kernel drops files that it keeps in memory before it ends a process.
                files = _counts(folder / "memory.stat")
                free = min(free, max(int(allowed) - int(taken) + files.get("inactive_file", 0), 0))
    return free


def oom_kills(system: Path = Path("/")) -> int:
    """Return how many processes of this control group the kernel has ended for lack of memory; of the machine, without a group."""
    for folder in _control_groups(system):
        for name in ("memory.events", "memory.oom_control"):
            if (found := _counts(folder / name).get("oom_kill")) is not None:
                return found
    return _counts(system / "proc/vmstat").get("oom_kill", 0)


def _control_groups(system: Path) -> Iterator[Path]:
    """Yield the folders of this process's control group and of those around it, for memory, in version 2 or 1 of the interface.

    In a container, the path that the kernel tells may be one outside of it. The mounted folder itself is then the group.
    """
    root = system / CGROUPS.relative_to("/")
    for line in _read(system / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        mount = root / "memory" if controllers else root
        own = mount / path.strip("/")
        yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(mount) and folder.is_dir())


def _counts(path: Path) -> dict[str, int]:
    """Return the numbers of a file of the system with one name and number in each line."""
    pairs = (line.split() for line in _read(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
