"""Options that are made of pydantic models: their spellings, and the errors for wrong ones."""

import json
from pathlib import Path
from typing import Literal

import pytest
import typer
from pydantic import AliasChoices, BaseModel, Field
from typer.testing import CliRunner

from app.cli.__main__ import app
from app.cli.model_options import GroupedCommand, takes_options


class Pet(BaseModel):
    """A model with one field of each kind."""

    name: str = Field(description="name")
    kind: Literal["cat", "dog"] = Field("cat", description="kind")
    legs: int = Field(4, ge=0, description="legs")
    toys: tuple[str, ...] = Field((), description="toys")
    ages: dict[str, int] = Field({}, description="ages")
    is_tame: bool | None = Field(None, description="tame")
    home: Path | None = Field(Path("here"), description="home")
    meals: int = Field(2, validation_alias=AliasChoices("meals", "feedings"), description="meals")


@pytest.fixture
def pet():
    """`pet("--legs", "3")`: the model as JSON, or the error, of a command with its options."""
    command = typer.Typer(rich_markup_mode=None)

    @command.command(cls=GroupedCommand)
    @takes_options(Pet, argument="name")
    def show(options: Pet) -> None:
        typer.echo(options.model_dump_json(exclude_unset=True))

    def run(*arguments: str):
        result = CliRunner().invoke(command, arguments)
        return json.loads(result.stdout) if result.exit_code == 0 else (result.exit_code, result.output)

    return run


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ("Tom", {}),
        ("--name Tom", {}),
        ("--name=Tom --legs=3", {"legs": 3}),
        ("Tom --name Tom", {}),
        ("--legs 3 Tom", {"legs": 3}),
        ("Tom --toys a,b", {"toys": ["a", "b"]}),
        ("Tom --toys a --toys b,c", {"toys": ["a", "b", "c"]}),
        ('Tom --toys ["a","b"]', {"toys": ["a", "b"]}),
        ("Tom --toys [a,b]", {"toys": ["a", "b"]}),
        ('Tom --toys x="\\n",y', {"toys": ['x="\\n"', "y"]}),
        ('Tom --toys "a,b",c', {"toys": ["a,b", "c"]}),
        ('Tom --ages {"a":1} --ages {"b":2}', {"ages": {"a": 1, "b": 2}}),
        ("Tom --is-tame", {"is_tame": True}),
        ("Tom --no-is-tame", {"is_tame": False}),
        ("Tom --home None", {"home": None}),
        ("Tom --kind dog", {"kind": "dog"}),
        ("Tom --meals 3", {"meals": 3}),
        ("Tom --feedings 3", {"meals": 3}),
    ],
)
def test_spellings(pet, arguments: str, given: dict) -> None:
    """Values may be separated or repeated, JSON or words; the first word may stand for an option."""
    assert pet(*arguments.split()) == {"name": "Tom", **given}


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        ("", 1, "ponder: name: Field required\n"),
        ("Tom --legs many", 1, "ponder: legs: Input should be a valid integer"),
        ("Tom --kind bird", 1, "ponder: kind: Input should be 'cat' or 'dog'\n"),
        ("Tom --ages secret", 1, "ponder: ages: not a JSON object\n"),
        ("Tom --name Tim", 1, "ponder: name: given twice, as Tom and as Tim\n"),
        ("Tom --legz 3", 2, "No such option: --legz (Possible options: --legs)\n"),
        ("Tom --legs", 2, "Option '--legs' requires an argument"),
    ],
)
def test_wrong_options_end_the_command(pet, arguments: str, status: int, reason: str) -> None:
    """A wrong value is one line and status 1; a wrong option is a usage error that names the nearest one."""
    ended, output = pet(*arguments.split())
    assert ended == status
    assert reason in output
    assert "secret" not in output


def test_old_names_of_options_are_hidden() -> None:
    """An old name works with a warning, but the help page shows the current name alone."""
    command = typer.Typer(rich_markup_mode=None)
    command.command(cls=GroupedCommand)(takes_options(Pet)(lambda _pet: None))
    text = CliRunner().invoke(command, ["--help"]).stdout
    assert "--meals" in text
    assert "--feedings" not in text
    result = CliRunner().invoke(command, ["--name", "Tom", "--feedings", "3"])
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "ponder: --feedings is deprecated and will be removed in the next release: use --meals\n"


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (("train", "lora", "--rnak", "1"), "--rank"),
        (("ask", "Hi", "--sead", "1"), "--seed"),
    ],
)
def test_a_typo_names_the_nearest_option(arguments, nearest: str) -> None:
    """Every command suggests options that look alike; `serve` does so when vLLM's engine does not know an option either."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert nearest in result.stderr.split("No such option")[1]


def test_commands_complete_their_choices() -> None:
    """A shell that completes `--dtype b` offers `bfloat16`."""
    completion = {"_PONDER_COMPLETE": "complete_bash", "COMP_WORDS": "ponder serve --dtype b", "COMP_CWORD": "3"}
    result = CliRunner().invoke(app, [], env=completion, prog_name="ponder")
    assert result.stdout.split() == ["bfloat16"]
