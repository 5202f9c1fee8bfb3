"""`ponder calibrate` makes of questions a policy that a server accepts and a report, and resumes where it was stopped."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.__main__ import app
from app.engine.scripted import ScriptedEngine
from app.lab.calibration.command import POLICY, POOL, REPORT, SEARCHES, calibrate
from app.lab.calibration.options import CalibrateOptions
from app.lab.calibration.pool import PoolRefused, read_pool
from app.routing.policies import read_policy
from app.settings import read_options

NUM_QUESTIONS = 60


class SumsModel:
    """Builds engines that always solve sums, often questions of age, and never riddles."""

    def __init__(self) -> None:
        self.engines: list[ScriptedEngine] = []

    def __call__(self, _settings: object) -> ScriptedEngine:
        self.engines.append(ScriptedEngine(self._answer))
        return self.engines[-1]

    @staticmethod
    def _answer(prompt: str, serial: int) -> str:
        first, second = map(int, re.findall(r"\d+", prompt)[:2])
        wrong = "riddle" in prompt or ("old" in prompt and (serial + first) % 3 == 0)
        return f"It is {first + second + wrong}"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    forms = ("What is {} + 5?", "Ann is {} and Tom is 5 years older: how old is he?", "A riddle of the king: take {}, add 5")
    lines = [
        {"messages": [{"role": "user", "content": forms[n % 3].format(n + 10)}], "answer": str(n + 15), "task": "t", "bin": 1}
        for n in range(NUM_QUESTIONS)
    ]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def options(data: Path, **fields: object) -> CalibrateOptions:
    defaults = {"samples": 4, "backtracked": 3, "attempts": 2, "searches": ("beam_search n=2 expand=2",), "concurrency": 8}
    return CalibrateOptions(data=data, out=data.parent / "out", **{**defaults, **fields})


def test_a_policy_and_its_report_are_made(data: Path) -> None:
    model, out = SumsModel(), data.parent / "out"
    calibrate(options(data), model)
    policy = read_policy(out / POLICY)
    assert policy.provenance["questions"] == NUM_QUESTIONS
    assert [one.answers for one in policy.stages] == [1, 2, 4]
    easy, *_, hard = (one.measured for one in policy.bins if one.measured)
    by_plan = {one.plan: one for one in easy}
    assert by_plan["direct"].accuracy > {one.plan: one for one in hard}["direct"].accuracy
    assert {"self_consistency n=4", "backtracking n=1", "beam_search n=2 expand=2", "auto, high"} <= by_plan.keys()
    page = (out / REPORT).read_text()
    for part in ("<h2>Plans</h2>", "<h2>Regret</h2>", "<h2>Difficulty</h2>", "data:image/png;base64,", "self_consistency n=4"):
        assert part in page
    # a second run samples nothing, and builds the same policy
    first = policy.model_dump(exclude={"provenance"})
    calibrate(options(data), model)
    assert not model.engines[-1].branches
    assert read_policy(out / POLICY).model_dump(exclude={"provenance"}) == first


def test_it_resumes_after_the_last_question(data: Path) -> None:
    model, out = SumsModel(), data.parent / "out"
    calibrate(options(data), model)
    for name, kept in ((POOL, 41), (SEARCHES, 20)):  # the first line of the pool holds its settings
        lines = (out / name).read_text().splitlines(keepends=True)
        (out / name).write_text("".join(lines[:kept]) + lines[kept][:30])
    calibrate(options(data), model)
    prompts = {tuple(branch.prompt.token_ids) for branch in model.engines[-1].branches}
    assert len(prompts) <= NUM_QUESTIONS
    assert len(read_pool(out / POOL)[1]) == NUM_QUESTIONS
    assert len((out / SEARCHES).read_text().splitlines()) == NUM_QUESTIONS


def test_a_dry_run_estimates_the_duration_and_writes_nothing(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calibrate(options(data, dry_run=True), SumsModel())
    assert f"{NUM_QUESTIONS} questions will take about 0 minutes" in " ".join(capsys.readouterr().err.split())
    assert not (data.parent / "out").exists()


@pytest.mark.parametrize("search", ["no_such n=2", "beam_search n=0", "beam_search n"])
def test_an_invalid_search_is_refused_before_the_engine_starts(data: Path, search: str) -> None:
    model = SumsModel()
    with pytest.raises(PoolRefused):
        calibrate(options(data, searches=(search,)), model)
    assert not model.engines


def test_questions_without_a_known_answer_are_refused(data: Path) -> None:
    data.write_text(json.dumps({"messages": [{"role": "user", "content": "How are you?"}]}) + "\n")
    with pytest.raises(PoolRefused, match="what is right"):
        calibrate(options(data), SumsModel())


def test_the_old_name_of_the_option_is_still_accepted(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--mended` is now called `--backtracked`."""
    given = {"data": str(data), "out": str(data.parent / "out")}
    assert read_options(CalibrateOptions, {**given, "mended": "3"}).backtracked == 3
    assert read_options(CalibrateOptions, {**given, "backtracked": "4"}).backtracked == 4
    # the questions are too few, so the command ends before an engine starts
    data.write_text(data.read_text().splitlines(keepends=True)[0])
    result = CliRunner().invoke(app, ["calibrate", "--data", str(data), "--out", given["out"], "--mended=3"])
    assert result.exit_code != 0
    assert "--mended is deprecated" in result.stderr
    assert "use --backtracked" in result.stderr
