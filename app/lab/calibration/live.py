"""Reads what a server has kept by live calibration, while it may still write."""

from pathlib import Path

from app.lab.calibration.pool import PoolRefused, read_pool
from app.routing.pool_file import POOL


def copy_live(folder: Path, out: Path) -> list[str]:
    """Copy the whole lines of the folder's pool to `out`, so that only their owner may read them, and return the keys of the questions.

    Raises `PoolRefused` for a folder without a pool, and where `out` has another one.
    """
    source, target = folder / POOL, out / POOL
    if not source.exists():
        others = sorted(one.parent.name for one in folder.glob(f"*/{POOL}"))
        has = f"there is one in {', '.join(others)}" if others else "the server has kept no question yet"
        raise PoolRefused(f"{folder} has no {POOL}: {has}")
    content = source.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if target.exists() and (target.samefile(source) or not whole.startswith(target.read_bytes())):
        raise PoolRefused(f"{target} is another pool: choose another --out")
    target.touch(mode=0o600)
    target.write_bytes(whole)
    return [entry.key for entry in read_pool(target)[1]]
