"""`ponder calibrate` makes a policy without answers, and one in a limited time, and says how far either can be trusted."""

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from adapters.training.errors import DataRefused
from app.cli.__main__ import app
from app.engine.scripted import ScriptedEngine
from app.lab.calibration import command
from app.lab.calibration.command import calibrate
from app.lab.calibration.files import POLICY, REPORT
from app.lab.calibration.options import CalibrateOptions
from app.lab.calibration.policy_writing import write_policy
from app.lab.calibration.pool import PoolRefused, read_pool
from app.lab.calibration.pooled_questions import PooledQuestion
from app.routing.policies import read_policy
from app.routing.pool_file import POOL
from tests.lab.calibration.test_command import SumsModel

FORMS = (
    "What is {} + 5?",
    "Ann is {} and Tom is 5 years older: how old is he?",
    "A riddle of the king: take {}, add 5: how many?",
)
PROMPTS = [FORMS[number % 3].format(number + 10) for number in range(45)]
OPEN = [f"Write a poem about {number} lions." for number in range(7)]


def written(folder: Path, lines: Sequence[object], name: str = "prompts.jsonl") -> Path:
    path = folder / name
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def prompts(texts: Sequence[str], **fields: object) -> list[dict]:
    return [{"prompt": text, **fields} for text in texts]


def options(data: Path, **fields: object) -> CalibrateOptions:
    defaults = {"samples": 3, "backtracked": 3, "attempts": 2, "concurrency": 8, "unlabelled": True}
    return CalibrateOptions(data=data, out=data.parent / "out", **{**defaults, **fields})


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_a_policy_is_made_without_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the data say is right is not used, and prompts whose answers are open are left out. The report says so first."""
    lines = [*prompts(PROMPTS[:30], answer="wrong"), *prompts(PROMPTS[30:]), *prompts(OPEN)]
    calibrate(options(written(tmp_path, lines)), SumsModel())
    output = said(capsys)
    assert "30 of 52 prompts have an answer" in output
    assert "7 of 52 prompts are left out" in output
    policy, page = read_policy(tmp_path / "out" / POLICY), (tmp_path / "out" / REPORT).read_text()
    assert policy.provenance["questions"] == len(PROMPTS)
    assert policy.provenance["labels"]["how"] == "agreement"
    assert page.index("made without answers") < page.index("<h2>Plans</h2>")
    accuracies = [one.accuracy for each in policy.bins for one in each.measured if one.plan == "direct"]
    assert all(0 < one < 1 for one in accuracies)
    assert accuracies
    settings, entries = read_pool(tmp_path / "out" / POOL)
    with pytest.raises(PoolRefused, match="--unlabelled"):
        PooledQuestion(entries[0], settings)
    # a second run samples nothing, and the pool is not mixed with one that is labelled
    model = SumsModel()
    calibrate(options(tmp_path / "prompts.jsonl"), model)
    assert not model.engines[-1].branches
    data = written(
        tmp_path, [{"messages": [{"role": "user", "content": text}], "answer": "1"} for text in PROMPTS], "data.jsonl"
    )
    with pytest.raises(PoolRefused, match="is_labelled: false, not true"):
        calibrate(options(data, unlabelled=False, searches=()), model)


def test_once_the_time_is_over_only_what_the_policy_needs_is_done(tmp_path: Path) -> None:
    """The prices rest on the plans with the most answers, so these are replayed all the same."""
    used = options(written(tmp_path, prompts(PROMPTS)))
    calibrate(used, SumsModel())
    keys = [one.key for one in read_pool(tmp_path / "out" / POOL)[1]]
    plans = {one.plan for each in read_policy(tmp_path / "out" / POLICY).bins for one in each.measured}
    assert {"direct", "self_consistency n=2", "backtracking n=4"} <= plans
    asyncio.run(write_policy(used, keys, deadline=time.monotonic()))
    plans = {one.plan for each in read_policy(tmp_path / "out" / POLICY).bins for one in each.measured}
    assert {"direct", "backtracking n=4"} <= plans
    assert "self_consistency n=2" not in plans
    assert "There was no time" in (tmp_path / "out" / REPORT).read_text()


def test_with_answers_the_provenance_says_so(tmp_path: Path) -> None:
    lines = [{"messages": [{"role": "user", "content": text}], "answer": str(n + 15)} for n, text in enumerate(PROMPTS)]
    calibrate(options(written(tmp_path, lines), unlabelled=False, searches=()), SumsModel())
    assert read_policy(tmp_path / "out" / POLICY).provenance["labels"] == {"how": "answers"}
    assert "without answers" not in (tmp_path / "out" / REPORT).read_text()


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], "is empty"),
        (prompts(PROMPTS[:1]), "has 1 different questions that can be used, in 1 lines"),
        (prompts(PROMPTS[:1] * 50), "has 1 different questions that can be used, in 50 lines"),
        (prompts(OPEN), "no prompt asks for an answer that can be compared"),
        ([*prompts(PROMPTS[:5]), *prompts(OPEN)], "has 5 different questions that can be used"),
        ([*prompts(PROMPTS[:3]), "{broken"], "line 4: not valid JSON"),
        ([*prompts(PROMPTS[:3]), {"text": "What is 1 + 1?"}], "line 4: `messages`"),
        ([{"prompt": 5}], "line 1: `messages.0.content`"),
        ([{"prompt": ""}], "line 1: `messages.0.content`"),
        (prompts(PROMPTS, kind="sum"), "`sum` is not a kind of answer"),
    ],
)
def test_unusable_prompts_are_refused_before_the_engine_starts(tmp_path: Path, lines: Sequence[object], reason: str) -> None:
    model = SumsModel()
    with pytest.raises((PoolRefused, DataRefused), match=reason):
        calibrate(options(written(tmp_path, lines)), model)
    assert not model.engines


def test_open_prompts_are_used_if_the_line_names_the_kind_of_the_answer(tmp_path: Path) -> None:
    data = written(tmp_path, prompts([f"Which animal has {number} legs?" for number in range(30)], kind="text"))
    assert len(command.questions_of(options(data))) == 30


def test_a_text_file_has_one_prompt_a_line(tmp_path: Path) -> None:
    data = written(tmp_path, [*PROMPTS, "", PROMPTS[0]], "prompts.txt")
    assert [one.messages[-1].content for one in command.questions_of(options(data))] == PROMPTS


@pytest.mark.parametrize("limit", [{"unlabelled": True}, {"quick": True}, {"minutes": 5}])
def test_searches_are_refused_where_they_cannot_be_run(tmp_path: Path, limit: dict) -> None:
    with pytest.raises(ValidationError, match="--searches goes neither"):
        CalibrateOptions(data=tmp_path, out=tmp_path, searches=("beam_search n=2",), **limit)
    assert CalibrateOptions(data=tmp_path, out=tmp_path, **limit).completed().searches == ()


def test_quick_sets_a_limit_and_fewer_samples_unless_they_are_given(tmp_path: Path) -> None:
    quick = CalibrateOptions(data=tmp_path, out=tmp_path, quick=True).completed()
    assert (quick.minutes, quick.samples, quick.backtracked, quick.searches, quick.exits) == (10, 7, 7, (), 0)
    given = CalibrateOptions(data=tmp_path, out=tmp_path, quick=True, samples=3, minutes=2).completed()
    assert (given.minutes, given.samples) == (2, 3)


class TiringSumsModel(SumsModel):
    """Answers forty questions, and never comes to the end of the others."""

    def __call__(self, _settings: object) -> ScriptedEngine:
        known: set[str] = set()

        def answer(prompt: str, serial: int) -> str:
            if prompt not in known and len(known) == 40:
                return "so " * 2000
            known.add(prompt)
            return self._answer(prompt, serial)

        self.engines.append(ScriptedEngine(answer, seconds_per_token=0.05))
        return self.engines[-1]


def test_quick_ends_in_time_with_what_it_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what a longer calibration would bring."""
    data = written(tmp_path, prompts([FORMS[number % 3].format(number + 10) for number in range(60)]))
    monkeypatch.setattr(command, "SAMPLING_SHARE", 0.2)
    quick = options(data, quick=True, minutes=1)
    began = time.monotonic()
    calibrate(quick, TiringSumsModel())
    assert time.monotonic() - began < 60
    done = len(read_pool(tmp_path / "out" / POOL)[1])
    assert 20 <= done <= 40
    assert read_policy(tmp_path / "out" / POLICY).provenance["questions"] == done
    assert "longer calibration would bring" in said(capsys)
    assert "longer calibration would bring" in (tmp_path / "out" / REPORT).read_text()


def test_a_time_limit_takes_the_questions_in_the_same_random_order(tmp_path: Path) -> None:
    """So it resumes with those that are missing, and what it has done is no part of the file that is easier than the rest."""
    found = [
        [one.messages[-1].content for one in command.questions_of(options(written(tmp_path, prompts(lines)), minutes=5))]
        for lines in (PROMPTS, PROMPTS[::-1])
    ]
    assert found[0] == found[1] != PROMPTS
    assert set(found[0]) == set(PROMPTS)


def test_too_little_time_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "SAMPLING_SHARE", 0.0)
    with pytest.raises(PoolRefused, match="0 questions were answered when the time was over"):
        calibrate(options(written(tmp_path, prompts(PROMPTS)), quick=True, minutes=1), SumsModel())
    assert not (tmp_path / "out" / POLICY).exists()


def test_the_command_tells_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    data = written(tmp_path, prompts(OPEN))
    result = CliRunner().invoke(app, ["calibrate", "--data", str(data), "--out", str(tmp_path / "out"), "--unlabelled"])
    assert result.exit_code == 1
    assert "can be compared" in str(result.exception)


def live_pool(folder: Path, num: int) -> Path:
    """A folder as live calibration leaves it, whose server is just writing the last line."""
    calibrate(options(written(folder, prompts(PROMPTS[:num])), samples=7, backtracked=0, attempts=1), SumsModel())
    pool = folder / "out" / POOL
    pool.write_text(pool.read_text() + '{"key": "half')
    return pool.parent


def test_a_pool_of_live_traffic_becomes_a_policy_while_the_server_writes(tmp_path: Path) -> None:
    """The file of the server stays as it is. The command may be given again when there is more, and spoils no other pool."""
    folder = live_pool(tmp_path, 30)
    before = (folder / POOL).read_bytes()
    calibrate(CalibrateOptions(live=folder, out=tmp_path / "made"))
    assert (folder / POOL).read_bytes() == before
    assert read_policy(tmp_path / "made" / POLICY).provenance["questions"] == 30
    calibrate(CalibrateOptions(live=folder, out=tmp_path / "made"))
    other = tmp_path / "other"
    other.mkdir()
    for text in ("another pool", (folder / POOL).read_text() + "and more"):
        (other / POOL).write_text(text)
        with pytest.raises(PoolRefused, match="is another pool"):
            calibrate(CalibrateOptions(live=folder, out=other))
    with pytest.raises(PoolRefused, match="is another pool"):
        calibrate(CalibrateOptions(live=folder, out=folder))


def test_a_folder_with_too_little_live_traffic_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PoolRefused, match="has kept no question yet"):
        calibrate(CalibrateOptions(live=tmp_path, out=tmp_path / "made"))
    folder = live_pool(tmp_path, 25)
    lines = (folder / POOL).read_text().splitlines(keepends=True)
    (folder / POOL).write_text("".join(lines[:9]))
    with pytest.raises(PoolRefused, match="has 8 questions, and 20 are needed"):
        calibrate(CalibrateOptions(live=folder, out=tmp_path / "made"))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "either --data or --live"),
        ({"live": "a", "data": "b"}, "either --data or --live"),
        ({"live": "a", "samples": 3}, "--samples does not go with --live"),
        ({"live": "a", "adapter": "b"}, "--adapter does not go with --live"),
    ],
)
def test_live_traffic_takes_no_option_of_the_drawing(tmp_path: Path, fields: dict, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        CalibrateOptions(out=tmp_path, **fields)
