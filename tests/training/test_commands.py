"""`ponder train …` and `ponder prune` as they are typed, on a model small enough to be trained within a test."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from adapters.training.sampling import Answer, Samples
from app.cli import app
from tests.adapters.training.conftest import CHATS, tiny, write_lines  # noqa: F401 - the same model

RECIPE = ["--rank", "4", "--context", "256", "--batch", "2", "--every", "2", "--max-steps", "4"]


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


def answered(options, base, right: str | None = None):
    """A teacher that says the sum, or `right`."""

    class Teacher:
        async def sample(self, question, n, _seed):
            a, b = (int(number) for number in question.messages[-1].content.rstrip("?").split(" + "))
            texts = [right or f"{a} + {b}\n= {a + b}", str(a + b + 1)]
            return Samples(question.key, tuple(Answer(text, is_whole=True) for text in texts[:n]), tokens=n, flops=1)

        async def continued(self, _prompt, key, n, _seed):
            return Samples(key, (Answer("= 3", is_whole=True),) * n, tokens=n, flops=1)

    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def at_hand(*_):
        yield Teacher()

    return at_hand(options, base)


def test_distilling(questions, tiny, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("app.training.commands.teacher", answered)
    arguments = ["train", "distill", "--prompts", questions, "--teacher", "somebody", "--model", tiny, "--samples", "2"]
    done = ponder(*arguments, "--out", tmp_path / "made", *RECIPE)
    assert done.exit_code == 0, done.output
    assert "36 of 36 questions answered rightly at least once, 50% of the answers are right" in done.output
    learned = [json.loads(line) for line in (tmp_path / "made.chosen.jsonl").read_text().splitlines()]
    assert learned[0]["messages"][-1]["content"] == "0 + 0\n= 0"
    assert (tmp_path / "made" / "adapter_model.safetensors").exists()


def test_distilling_what_nobody_knows(questions, tiny, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("app.training.commands.teacher", lambda *arguments: answered(*arguments, right="no idea"))
    done = ponder(
        "train", "distill", "--prompts", questions, "--teacher", "x", "--model", tiny, "--out", tmp_path / "made", *RECIPE
    )
    assert done.exit_code == 1
    assert "none of" in done.output


@pytest.mark.parametrize("kind", ["orm", "prm"])
def test_training_a_verifier(kind, questions, tiny, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("app.training.commands.served", lambda *_: answered(None, None))
    arguments = ["train", "verifier", "--kind", kind, "--prompts", questions, "--model", tiny, "--samples", "2"]
    done = ponder(*arguments, "--rollouts", "2", "--validation-share", "0.3", "--out", tmp_path / "made", *RECIPE)
    assert done.exit_code == 0, done.output
    assert "validation AUROC" in done.output
    assert "{answer}" in json.loads((tmp_path / "made" / "ponder.json").read_text())["inquiry"]["template"]
    assert (tmp_path / "made.rollouts.jsonl").exists() == (kind == "prm")


def test_pruning(chats, tiny, tmp_path):  # noqa: F811
    done = ponder("prune", "--data", chats, "--model", tiny, "--kv-heads", 1, "--out", tmp_path / "small", *RECIPE)
    assert done.exit_code == 0, done.output
    assert f"ponder serve --model {tmp_path / 'small'}" in done.output
    assert json.loads((tmp_path / "small" / "config.json").read_text())["num_key_value_heads"] == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--data", "gone.jsonl"], "gone.jsonl cannot be read: No such file"),
        (["--rank", "0"], "rank: Input should be greater than or equal to 1"),
        (["--batch", "3", "--at-once", "2"], "a batch of 3 rows cannot be computed 2 at a time"),
        (["--targets", "query"], "the model has no linear module `query`"),
        (["--model", "/nowhere"], "there is no model folder /nowhere"),
        (["--colour", "red"], "unrecognized arguments: --colour"),
        (["--context", "16"], "examples are longer than the context of 16 tokens"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments, reason, chats, tiny, tmp_path):  # noqa: F811
    given = {"--data": chats, "--model": tiny, "--out": tmp_path / "made"}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    done = ponder("train", "lora", *(word for pair in given.items() for word in pair))
    assert done.exit_code != 0
    assert reason in done.output.replace("\n", " ") or reason in str(done.exception)
    assert "Traceback" not in done.output


def test_help_names_every_option():
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "train", "distill", "--help"], capture_output=True, text=True, env={**os.environ}
    )
    assert done.returncode == 0
    for option in ("--teacher", "--samples", "--keep", "--logits", "--rank", "--learning-rate"):
        assert option in done.stdout
