"""Help pages of all commands: the same form, words for types, a text for every option, and 80 columns."""

import re
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from app.cli.__main__ import app

PYTHON_TYPES = re.compile(r"tuple\[|list\[|dict\[|None \||\| None|Literal|Optional|<str>|<int>|<float>|<bool>|HttpUrl|Path\b")


def commands(command=None, *path: str):
    """The words of each command, groups included, with the command."""
    command = command or typer.main.get_command(app)
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, *path, name)


COMMANDS = dict(commands())


def page(*path: str) -> str:
    result = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": None}, prog_name="ponder")
    assert result.exit_code == 0, result.output
    return result.stdout


def test_all_commands_are_there() -> None:
    """The pages below cover every command."""
    names = {" ".join(path) for path in COMMANDS}
    assert names >= {
        "", "serve", "ask", "explain", "calibrate", "prune", "train lora", "train qlora", "train distill", "train verifier",
        "adapters list", "adapters show", "adapters push", "adapters activate", "adapters remove",
    }  # fmt: skip


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_is_readable(path) -> None:
    """No page shows a Python type, or needs more than 80 columns; every option has a text, and every command a summary."""
    text = page(*path)
    assert not PYTHON_TYPES.search(text)
    assert max(map(len, text.splitlines())) <= 80
    command = COMMANDS[path]
    assert command.help
    for parameter in command.params:
        assert parameter.help, parameter.name
        assert all(option in text for option in parameter.opts if option.startswith("--") and not parameter.hidden)


def test_the_list_of_commands_has_whole_sentences() -> None:
    """No summary is cut off."""
    for path in ((), ("train",), ("adapters",)):
        assert "..." not in page(*path).split("Commands:")[1]


def test_settings_are_grouped_with_defaults_and_variables() -> None:
    """A setting's type, default and variable are beside it, unbroken, under the title of its group."""
    text = page("serve")
    titles = re.findall(r"^(\S.*):$", text, re.MULTILINE)
    assert titles[:5] == ["Arguments", "Options", "Model", "Engine", "Replicas"]
    assert "--port <integer>" in text
    assert "[default: 8000] [env: PONDER_PORT]" in text
    assert "--dtype <auto|bfloat16|float16|half|float32|float>" in text
    assert "--priorities / --no-priorities" in text


def test_options_of_training_have_groups_too() -> None:
    """What must be given comes first and is marked; the shape of the adapter and the schedule follow."""
    text = page("train", "lora")
    assert text.index("--data <path>") < text.index("Adapter:") < text.index("--rank") < text.index("Training:")
    assert text.count("[required]") == 2


def test_help_imports_neither_torch_nor_a_server() -> None:
    """Help pages and shell completion do not wait for libraries that only the commands' work needs."""
    heavy = {"torch", "vllm", "transformers", "numpy", "uvicorn", "fastapi", "httpx", "peft", "sklearn"}
    code = f"import sys; import app.cli.__main__; print(sorted({heavy!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout == "[]\n", run.stderr


def test_version() -> None:
    """`ponder --version` prints name and version."""
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert re.fullmatch(r"ponder \d+\.\d+\.\d+\S*\n", result.stdout)
