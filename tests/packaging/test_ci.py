"""What runs the checks elsewhere calls the commands of this repository, in a form that its runner accepts."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("schema", ["vendor.github-workflows", "custom.github-workflows-require-timeout"])
def test_workflows_follow_githubs_schema(schema: str) -> None:
    """And each job says how long it may take."""
    command = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *WORKFLOWS)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert WORKFLOWS
    assert done.returncode == 0, done.stdout


def test_the_workflow_runs_what_must_hold_before_anything_lands() -> None:
    """One command, which is there and may be executed."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    commands = [step["run"] for step in workflow["jobs"]["check"]["steps"] if "run" in step]
    assert commands == [".ci/run"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert workflow["permissions"] == {"contents": "read"}


@pytest.fixture(scope="module")
def hooks() -> dict[str, dict]:
    """The hooks of pre-commit by id."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert set(config) <= {"default_stages", "repos"}
    [repository] = config["repos"]
    assert repository["repo"] == "local"  # versions are locked once, in locks/
    return {hook["id"]: hook for hook in repository["hooks"]}


def test_hooks_run_parts_of_make_lint(hooks) -> None:
    """Each program is one that `make lint` runs, and the last hook is `make lint` itself."""
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE).group(1)
    for hook in hooks.values():
        program, *arguments = hook["entry"].split()
        assert hook["language"] == "system"
        assert (program, arguments) == ("make", ["lint"]) or program.replace(".venv/bin", "$(BIN)") in recipe, hook["id"]


def test_a_hook_without_file_names_is_told_none(hooks) -> None:
    """Mypy and import-linter check the whole repository, whatever has changed."""
    assert {name for name, hook in hooks.items() if not hook.get("pass_filenames", True)} == {
        "types",
        "architecture",
        "make-lint",
    }
