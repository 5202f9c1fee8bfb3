"""`ponder calibrate` makes of questions a policy that a server accepts and a report, and resumes where it was stopped."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.__main__ import app
from app.engine.scripted import ScriptedEngine
from app.lab.calibration.command import calibrate
from app.lab.calibration.files import POLICY, REPORT, SEARCHES, THOUGHTS
from app.lab.calibration.options import CalibrateOptions
from app.lab.calibration.pool import PoolRefused, read_pool
from app.routing.policies import read_policy
from app.routing.pool_file import POOL
from app.settings import read_options
from strategies.checking.thoughts import TRANSITIONS
from tests.thinkers import MARKS

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
    assert policy.exits is None  # it does not think
    assert not (out / THOUGHTS).exists()
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


class ThinkingModel:
    """Builds engines that think for four lines, and are sure of the right answer from the third one on."""

    def __init__(self) -> None:
        self.engines: list[ScriptedEngine] = []

    def __call__(self, _settings: object) -> ScriptedEngine:
        self.engines.append(ScriptedEngine(self._answer, thinking=MARKS))
        return self.engines[-1]

    @staticmethod
    def _answer(prompt: str, _serial: int) -> str:
        question, _, said = prompt.rpartition(MARKS[0])
        first, second = map(int, re.findall(r"\d+", question)[:2])
        thinking = " a b c d e f g h i j\nWait, k l m n o p q r\nHmm, s t u v w x y z\nBut" + " again and" * 9
        thought, is_ended, rest = said.partition(MARKS[1])
        if not is_ended:
            return f"{thinking} {MARKS[1]} It is {first + second}"[len(said) :]
        if "####" not in rest:
            return f" It is {first + second}"
        return str(first + second) if "Hmm" in thought else f"{first * 1000}.25"


def test_thresholds_of_early_exits_are_measured_where_the_model_thinks(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once; they get into the policy and the report. `--exits 0` measures none."""
    model, out = ThinkingModel(), data.parent / "out"
    calibrate(options(data, searches=()), model)
    policy, page = read_policy(out / POLICY), (out / REPORT).read_text()
    assert policy.exits is not None
    assert policy.exits.questions == len((out / THOUGHTS).read_text().splitlines()) == NUM_QUESTIONS
    best = policy.exits.thresholds[0]
    assert best.transitions in (TRANSITIONS, ("\n",))
    assert best.thinking + best.trials < 1
    assert best.accuracy == 0
    assert "early exits at a confidence" in " ".join(capsys.readouterr().err.split())
    for part in ("agreement of trials at equal tokens", "fixed length", "whole thinking"):
        assert part in page
    calibrate(options(data, searches=()), model)
    assert not model.engines[-1].branches
    calibrate(options(data, searches=(), exits=0), model)
    assert read_policy(out / POLICY).exits is None


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
