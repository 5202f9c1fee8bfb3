"""A path that is wrong is told in one line, before any model is loaded."""

import json
import signal
from pathlib import Path

import pytest

from app.cli import __main__ as program
from app.settings import Settings

QUESTIONS = "".join(
    json.dumps({"messages": [{"role": "user", "content": f"What is {number} + 1?"}], "answer": str(number + 1)}) + "\n"
    for number in range(25)
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with data, a file, an empty folder, and an adapter whose config is broken."""
    (tmp_path / "data.jsonl").write_text(QUESTIONS)
    (tmp_path / "file").write_text("not a folder")
    for name in ("empty", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "adapter_config.json").write_text("{")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("calibrate --data {}/data.jsonl --out {}/file", "file cannot be written: File exists"),
        ("calibrate --data {}/data.jsonl --out {}/file/below", "below cannot be written: Not a directory"),
        ("calibrate --data {}/none.jsonl --out {}/out", "none.jsonl cannot be read: No such file or directory"),
        ("calibrate --data {}/empty --out {}/out", "empty cannot be read: Is a directory"),
        ("calibrate --data {}/data.jsonl --out {}/out --adapter {}/none", "none holds no adapter: adapter_config.json: No such file"),
        ("calibrate --data {}/data.jsonl --out {}/out --adapter {}/file", "file holds no adapter: adapter_config.json: Not a directory"),
        ("calibrate --data {}/data.jsonl --out {}/out --verifier {}/empty", "empty holds no adapter: adapter_config.json: No such file"),
        ("calibrate --data {}/data.jsonl --out {}/out --adapter {}/broken", "broken holds no adapter: adapter_config.json is not valid"),
        ("calibrate --data {}/data.jsonl --out {}/out --dry-run --adapter {}/none", "none holds no adapter"),
        ("calibrate --live {}/none --out {}/out", "none has no pool.jsonl"),
        ("calibrate --live {}/empty --out {}/file", "file cannot be written"),
        ("cascade --pools {}/none,{}/empty --out {}/out", "pool.jsonl is not there"),
        ("cascade --pools {}/none,{}/empty --out {}/file", "file cannot be written"),
        ("train lora --data {}/data.jsonl --out {}/file", "file cannot be written"),
        ("train lora --data {}/data.jsonl --out {}/out --model {}/empty", "empty holds no model that can be trained"),
        ("train distill --prompts {}/data.jsonl --teacher self --out {}/out --model {}/empty", "empty holds no model that can be trained"),
        ("serve --policy-dir {}/file", "policy_dir"),
        ("serve --adapter-dir {}/file", "adapter_dir"),
        ("serve --live-calibration-dir {}/file", "live_calibration_dir"),
    ],
)  # fmt: skip
def test_a_wrong_path_is_told_in_one_line(place: Path, monkeypatch: pytest.MonkeyPatch, command: str, message: str) -> None:
    handler = signal.getsignal(signal.SIGTERM)  # commands that train set one
    monkeypatch.setattr("sys.argv", ["ponder", *command.format(*[place] * 3).split()])
    with pytest.raises(SystemExit) as ended:
        program.main()
    signal.signal(signal.SIGTERM, handler)
    line = str(ended.value.code)
    assert line.startswith("ponder: ")
    assert message in line
    assert "\n" not in line
    assert not (place / "out").exists()


def test_a_file_that_a_command_cannot_open_is_told_in_one_line(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the command was doing. An error that names no file is none of a path, and is not hidden."""
    error: OSError = NotADirectoryError(20, "Not a directory", str(place / "file"))

    def fail(**_options: object) -> None:
        raise error

    monkeypatch.setattr(program, "app", fail)
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == f"ponder: {place / 'file'}: Not a directory"
    error = ConnectionResetError(104, "Connection reset")
    with pytest.raises(ConnectionResetError):
        program.main()


def test_folders_of_the_server_may_be_missing(tmp_path: Path) -> None:
    """They are made when they are needed."""
    assert Settings(policy_dir=tmp_path / "policies", adapter_dir=tmp_path / "adapters")
