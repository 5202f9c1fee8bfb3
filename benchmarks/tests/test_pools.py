"""The packed pools are whole: they can be read, replayed, and filled on."""

from pathlib import Path

import pytest

from app.lab.calibration.pool import Pool, read_pool
from app.lab.calibration.pooled_questions import PooledQuestion
from app.routing.pool_file import POOL
from benchmarks import pools
from benchmarks.suite.families import FAMILIES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pools")
    pools.unpack(path)
    return path


def test_each_packed_pool_is_read_and_filled_on(folder: Path) -> None:
    paths = sorted(folder.glob(f"*/*/{POOL}"))
    assert {path.parent.parent.name for path in paths} == {"base", "adapter", "coder05", "coder15"}
    for path in paths:
        settings, entries = read_pool(path)
        assert len(Pool(path, settings).entries) == len(entries) > 100
        assert {one.task for one in entries} <= {*FAMILIES, "gsm8k"}
        assert PooledQuestion(entries[0], settings).replay_greedy().flops > 0


def test_packing_what_was_unpacked_changes_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "from" / "base" / "test" / POOL
    small.parent.mkdir(parents=True)
    small.write_text("".join((folder / "base" / "test" / POOL).read_text().splitlines(keepends=True)[:5]))
    monkeypatch.setattr(pools, "PACKED", tmp_path / "packed")
    pools.pack(tmp_path / "from")
    pools.unpack(tmp_path / "to")
    assert (tmp_path / "to" / "base" / "test" / POOL).read_text() == small.read_text()


def test_an_unpacked_pool_does_not_replace_one_that_is_there(folder: Path) -> None:
    path = folder / "base" / "test" / POOL
    before = path.read_text()
    path.write_text(before + before.splitlines()[-1] + "\n")
    pools.unpack(folder)
    assert path.read_text() != before
    path.write_text(before)
