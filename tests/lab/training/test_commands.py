"""`ponder train …` and `ponder prune` as they are typed, on a model small enough to be trained within a test."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from adapters.training.ports import ModelAddress
from app.cli.__main__ import app
from app.engine.weights import default_model
from tests.adapters.training.conftest import CHATS, tiny, write_lines  # noqa: F401 - the same model

SCHEDULE = ["--context", "256", "--batch", "2", "--every", "2", "--max-steps", "4"]
RECIPE = ["--rank", "4", *SCHEDULE]


def ponder(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "chats.jsonl", CHATS)


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "questions.jsonl", [{**chat, "answer": chat["messages"][1]["content"]} for chat in CHATS])


@pytest.mark.parametrize("command", ["lora", "qlora"])
def test_training_an_adapter(command, chats, tiny, tmp_path):  # noqa: F811
    done = ponder(
        "train", command, "--data", chats, "--validation", chats, "--model", tiny, "--out", tmp_path / "made", *RECIPE
    )
    assert done.exit_code == 0, done.output
    assert "| steps | 4," in done.output
    assert "ponder adapters push NAME" in done.output
    card = json.loads((tmp_path / "made" / "run_card.json").read_text())
    assert card["recipe"]["method"] == command
    assert card["recipe"]["optim"] == ("adamw_torch" if command == "lora" else "adamw_8bit")


class Teacher:
    """Answers with the sum (or always `says`), then with a wrong sum. Every partial answer is continued alike."""

    def __init__(self, says: str | None = None) -> None:
        self.says = says
        self.started = 0
        self.refuses: tuple[str, ...] = ()

    @contextmanager
    def serving(self, *_: object) -> Iterator[ModelAddress]:
        """Stands in for the servers that the commands would start."""
        self.started += 1
        yield ModelAddress("http://nobody", "teacher")

    def reply(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if "prompt" in body:
            return self._replied([{"text": "= 3"}] * body["n"])
        if body["messages"][-1]["content"] in self.refuses:
            return httpx.Response(400, text="too long")
        a, b = (int(number) for number in body["messages"][-1]["content"].rstrip("?").split(" + "))
        texts = [self.says or f"{a} + {b}\n= {a + b}", str(a + b + 1)]
        return self._replied([{"message": {"content": text}} for text in texts[: body["n"]]])

    def _replied(self, choices: list[dict]) -> httpx.Response:
        return httpx.Response(200, json={"choices": [{**choice, "finish_reason": "stop"} for choice in choices]})


@pytest.fixture
def teacher(monkeypatch) -> Teacher:
    """The model that the commands ask over HTTP."""
    made = Teacher()
    monkeypatch.setattr("app.lab.training.environment.serving", made.serving)
    client = httpx.AsyncClient
    transport = httpx.MockTransport(made.reply)
    monkeypatch.setattr("adapters.training.teacher.httpx.AsyncClient", lambda **options: client(transport=transport, **options))
    return made


def test_distilling(questions, tiny, tmp_path, teacher):  # noqa: F811
    arguments = ["train", "distill", "--prompts", questions, "--teacher", "somebody", "--model", tiny, "--samples", "2"]
    done = ponder(*arguments, "--out", tmp_path / "made", *RECIPE)
    assert done.exit_code == 0, done.output
    assert "36 of 36 questions answered rightly at least once, 50% of the answers are right" in done.output
    learned = [json.loads(line) for line in (tmp_path / "made.chosen.jsonl").read_text().splitlines()]
    assert learned[0]["messages"][-1]["content"] == "0 + 0\n= 0"
    assert (tmp_path / "made" / "adapter_model.safetensors").exists()


def test_no_server_is_started_when_all_answers_are_kept(questions, tiny, tmp_path, teacher):  # noqa: F811
    arguments = ["train", "distill", "--prompts", questions, "--teacher", "somebody", "--model", tiny, "--samples", "2"]
    for _ in range(2):
        assert ponder(*arguments, "--out", tmp_path / "made", *RECIPE).exit_code == 0
    assert teacher.started == 1


def test_answers_of_other_settings_are_not_used(questions, tiny, tmp_path, teacher):  # noqa: F811
    """With another teacher, more answers or another temperature they are sampled again, and the run is another one."""
    arguments = ["train", "distill", "--prompts", questions, "--model", tiny, "--out", tmp_path / "made", *RECIPE]
    ways = (
        ["--teacher", "a"],
        ["--teacher", "b"],
        ["--teacher", "a", "--samples", "2"],
        ["--teacher", "a", "--temperature", "1"],
    )
    codes = [ponder(*arguments, *way).exit_code for way in ways]
    assert teacher.started == len(ways)
    assert codes == [0, 1, 1, 1]
    card = json.loads((tmp_path / "made" / "run_card.json").read_text())
    assert (card["data"]["answers of"], card["data"]["answers each"]) == ("a", 4)


def test_a_question_that_is_refused_is_left_out(questions, tiny, tmp_path, teacher):  # noqa: F811
    teacher.refuses = ("0 + 0?", "5 + 5?")
    arguments = ["train", "distill", "--prompts", questions, "--teacher", "x", "--model", tiny, "--out", tmp_path / "made"]
    done = ponder(*arguments, *RECIPE)
    assert done.exit_code == 0, done.output
    assert "2 of 36 questions are refused" in done.output
    assert len((tmp_path / "made.samples.jsonl").read_text().splitlines()) == 36


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--targets", "query"], "the model has no linear module `query`"),
        (["--start", "nowhere"], "nowhere holds no adapter"),
        (["--validation", "gone.jsonl"], "gone.jsonl cannot be read"),
        (["--logits"], "probabilities are learned of a model folder, and x is none"),
        (["--patience", "2"], "--patience needs --validation"),
        (["--teacher-model", "y"], "give its URL as --teacher"),
    ],
)
def test_a_wrong_option_is_reported_before_the_teacher_is_asked(arguments, reason, questions, tiny, tmp_path, teacher):  # noqa: F811
    given = ["train", "distill", "--prompts", questions, "--teacher", "x", "--model", tiny, "--out", tmp_path / "made"]
    done = ponder(*given, *RECIPE, *arguments)
    assert done.exit_code != 0
    assert reason in done.output.replace("\n", " ") or reason in str(done.exception)
    assert teacher.started == 0
    assert not (tmp_path / "made").exists()


def test_a_missing_generator_is_reported_before_it_is_asked(questions, tiny, tmp_path, teacher):  # noqa: F811
    arguments = ["train", "verifier", "--prompts", questions, "--model", tiny, "--generator", tmp_path / "nowhere"]
    done = ponder(*arguments, "--out", tmp_path / "made", *RECIPE)
    assert done.exit_code == 1
    assert "nowhere holds no adapter" in done.output
    assert teacher.started == 0


def test_distilling_without_a_right_answer(questions, tiny, tmp_path, teacher):  # noqa: F811
    teacher.says = "no idea"
    done = ponder(
        "train", "distill", "--prompts", questions, "--teacher", "x", "--model", tiny, "--out", tmp_path / "made", *RECIPE
    )
    assert done.exit_code == 1
    assert "none of" in done.output


@pytest.mark.parametrize("kind", ["orm", "prm"])
def test_training_a_verifier(kind, questions, tiny, tmp_path, teacher):  # noqa: F811
    arguments = ["train", "verifier", "--kind", kind, "--prompts", questions, "--model", tiny, "--samples", "2"]
    done = ponder(*arguments, "--rollouts", "2", "--validation-share", "0.3", "--out", tmp_path / "made", *RECIPE)
    assert done.exit_code == 0, done.output
    assert teacher.started == 1
    assert "validation AUROC" in done.output
    assert "{answer}" in json.loads((tmp_path / "made" / "ponder.json").read_text())["verifier_prompt"]["template"]
    assert (tmp_path / "made.rollouts.jsonl").exists() == (kind == "prm")


def test_a_verifier_is_trained_further_from_an_adapter(questions, chats, tiny, tmp_path, teacher):  # noqa: F811
    solver, judge = tmp_path / "solver", tmp_path / "judge"
    made = ponder("train", "lora", "--data", chats, "--model", tiny, "--out", solver, *RECIPE)
    assert made.exit_code == 0, made.output
    arguments = ["train", "verifier", "--prompts", questions, "--model", tiny, "--samples", "2", "--validation-share", "0.3"]
    done = ponder(*arguments, "--start", solver, "--out", judge, *RECIPE, "--learning-rate", "1e-12")
    assert done.exit_code == 0, done.output
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (solver, judge))
    for name, weight in before.items():
        torch.testing.assert_close(after[name], weight)


def test_pruning(chats, tiny, tmp_path):  # noqa: F811
    done = ponder("prune", "--data", chats, "--model", tiny, "--kv-heads", 1, "--out", tmp_path / "small", *SCHEDULE)
    assert done.exit_code == 0, done.output
    assert f"ponder serve --model {tmp_path / 'small'}" in done.output
    assert json.loads((tmp_path / "small" / "config.json").read_text())["num_key_value_heads"] == 1
    card = json.loads((tmp_path / "small" / "run_card.json").read_text())
    assert "rank" not in card["recipe"]
    assert card["scores"]["parameters, pruned"] < card["scores"]["parameters, before"]
    assert card["scores"]["GFLOP a token, pruned"] < card["scores"]["GFLOP a token, before"]
    assert {f"loss of the answers, {when}" for when in ("before", "pruned", "recovered")} <= set(card["scores"])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--data", "gone.jsonl"], "gone.jsonl cannot be read: No such file"),
        (["--rank", "0"], "rank: Input should be greater than or equal to 1"),
        (["--batch", "3", "--at-once", "2"], "a batch of 3 rows cannot be computed 2 at a time"),
        (["--targets", "query"], "the model has no linear module `query`"),
        (["--model", "/nowhere"], "there is no model folder /nowhere"),
        (["--colour", "red"], "No such option: --colour"),
        (["--context", "16"], "examples are longer than the context of 16 tokens"),
    ],
)
def test_a_wrong_option_is_reported_in_one_line(arguments, reason, chats, tiny, tmp_path):  # noqa: F811
    given = {"--data": chats, "--model": tiny, "--out": tmp_path / "made"}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    done = ponder("train", "lora", *(word for pair in given.items() for word in pair))
    assert done.exit_code != 0
    assert reason in done.output.replace("\n", " ") or reason in str(done.exception)
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "the disk is full"),
        (SafetensorError(f"io error: {os.strerror(errno.ENOSPC)}"), "the disk is full"),
        (KeyboardInterrupt(), "the same command goes on from the last checkpoint"),
    ],
)
def test_an_interrupted_run_ends_with_one_line(error, reason, chats, tiny, tmp_path, monkeypatch):  # noqa: F811
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("app.lab.training.commands.run_fine_tuning", fail)
    done = ponder("train", "lora", "--data", chats, "--model", tiny, "--out", tmp_path / "made")
    assert done.exit_code == 1
    assert reason in done.output + str(done.exception)
    assert "Traceback" not in done.output


def test_a_base_that_cannot_be_converted_is_reported_in_one_line(chats, tmp_path, monkeypatch):
    monkeypatch.setattr(default_model, "PACKAGE", "nowhere")
    monkeypatch.setenv("PONDER_CACHE_DIR", str(tmp_path / "cache"))
    done = ponder("train", "lora", "--data", chats, "--out", tmp_path / "made")
    assert done.exit_code != 0
    assert "the package nowhere is not installed" in str(done.exception) + done.output
    assert "Traceback" not in done.output


def test_help_names_every_option():
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "train", "distill", "--help"],
        capture_output=True,
        text=True,
        env={**os.environ},
    )
    assert done.returncode == 0
    for option in ("--teacher", "--samples", "--keep", "--logits", "--rank", "--learning-rate"):
        assert option in done.stdout
