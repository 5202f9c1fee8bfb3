"""Models of the Python API over the scripted engine."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import ponder


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, object]:
    """Nothing of this machine's own adapters and policies."""
    return {"adapter_dir": tmp_path / "adapters", "policy_dir": tmp_path / "policies", "shipped_adapters": False}


@pytest.fixture
def engine() -> ponder.ScriptedEngine:
    return ponder.ScriptedEngine(ponder.cycle(["It is 42.", "17 + 25 = 42", "I say 41."]))


@pytest.fixture
async def model(engine: ponder.ScriptedEngine, settings: dict[str, object]) -> AsyncIterator[ponder.AsyncPonder]:
    async with ponder.load(engine=engine, **settings) as model:
        yield model


@pytest.fixture
def notebook(engine: ponder.ScriptedEngine, settings: dict[str, object]) -> Iterator[ponder.Ponder]:
    with ponder.Ponder(engine=engine, **settings) as model:
        yield model
