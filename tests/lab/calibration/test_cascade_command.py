"""`ponder cascade` makes one file of the pools of several models."""

import json
import re
from pathlib import Path

import pytest

from app.engine.scripted import ScriptedEngine
from app.lab.calibration.cascade_command import CASCADE, REPORT, cascade
from app.lab.calibration.command import calibrate
from app.lab.calibration.options import CalibrateOptions, CascadeOptions
from app.lab.calibration.pool import PoolRefused
from app.routing.cascade_file import parse_cascade

NUM_QUESTIONS = 30


def answer(prompt: str, _serial: int) -> str:
    first, second = map(int, re.findall(r"\d+", prompt)[:2])
    return f"It is {first + second + ('riddle' in prompt)}"


def fill(folder: Path, questions: int) -> Path:
    """Fill a pool with the answers of a model that solves sums and no riddles."""
    forms = ("What is {} + 5?", "A riddle of the king: what is {} + 5?")
    lines = [
        {"messages": [{"role": "user", "content": forms[n % 2].format(n + 10)}], "answer": str(n + 15), "task": "t", "bin": 1}
        for n in range(questions)
    ]
    data = folder.with_suffix(".jsonl")
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = CalibrateOptions(
        data=data, out=folder, model=f"/models/{folder.name}", samples=1, backtracked=1, attempts=1, searches=()
    )
    calibrate(options, lambda _settings: ScriptedEngine(answer))
    return folder


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("pools")
    return fill(root / "small", NUM_QUESTIONS), fill(root / "large", NUM_QUESTIONS + 4)


def test_a_cascade_and_its_report_are_made(pools: tuple[Path, Path], tmp_path: Path) -> None:
    """Of the questions that all models have answered, in a folder that need not be there."""
    out = tmp_path / "new" / "cascade"
    cascade(CascadeOptions(pools=pools, out=out))
    file = parse_cascade((out / CASCADE).read_bytes())
    assert file.provenance["questions"] == NUM_QUESTIONS
    assert len(file.members) == 2
    page = (out / REPORT).read_text()
    for part in ("cascade, low", "cascade, high", "greedy", "50.0%"):
        assert part in page


def test_pools_of_other_questions_are_refused(pools: tuple[Path, Path], tmp_path: Path) -> None:
    lines = (pools[1] / "pool.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "pool.jsonl").write_text("".join(lines[:10]))
    with pytest.raises(PoolRefused, match="9 questions in common"):
        cascade(CascadeOptions(pools=(pools[0], tmp_path), out=tmp_path))


def test_pools_that_are_none_or_of_the_same_model_are_refused(pools: tuple[Path, Path], tmp_path: Path) -> None:
    for one, reason in ((tmp_path, "is not there, or is empty"), (pools[0], "the same model")):
        with pytest.raises(PoolRefused, match=reason):
            cascade(CascadeOptions(pools=(pools[0], one), out=tmp_path))
