"""Every example runs as it stands, against real vLLM, and prints what it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import BIN, ENVIRONMENT, Server

EXAMPLES = Path(__file__).parents[2] / "examples"

PRINTS = {
    "best_of_n_json": r"(candidate \d: score \d\.\d\d, \w+\n){4}\{'city': '.*', 'country': '.*'\}\n",
    "budget_and_dry_run": r"best_of_n: about \d+ tokens and \d+ GFLOP\nspent (\d\d?|100) of 100 tokens, stopped by budget_tokens\n",
    "calibrate_a_model": r"before: .*\(general\).*\nafter: .*\(calibrated\).*\n",
    "feedback_and_traces": r"(?s:(?=.*^\* ).*)feedback taken, question kept: (True|False)\n",
    "first_request": r"(?s:.*#### 50\n\w+, \w+: \d+ tokens, \d+\.\d GFLOP\n)",
    "own_strategy": r"'.*' of [23] candidates, for \d+ tokens\n",
    "python_api": r"'.*': \w+, \d+ tokens, .*\n(candidate \d: .*\n){1,4}plan: .+\n(together: .+\n){2}",
    "rule_as_verifier": r"regex: verified after .*\nnumber: verified after .*\narithmetic: \w+ after \d candidates\n",
    "swap_an_adapter": r"first version:( red)+\nsecond version:( green)+\nrolled back:( red)+\n",
    "train_an_adapter": r"Seven\.\n",
    "watch_a_search": r"(progress: .+\n)+nodes: \{.*'chosen': 1.*\}\nanswer: (?s:.+)\n",
}
"""What each prints, as a pattern for the whole of it."""


def run(server: Server, folder: Path, *command: str | Path) -> str:
    """What a command prints that is told where the server is; what it keeps is thrown away."""
    variables = {"PONDER_URL": server.url, "PONDER_KV_CACHE_GIB": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    kept = {f"PONDER_{name}_DIR": str(folder / name) for name in ("ADAPTER", "POLICY")}
    done = subprocess.run(command, cwd=folder, env={**ENVIRONMENT, **variables, **kept}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_every_example_is_run_and_listed() -> None:
    """A file that nobody runs would be out of date soon."""
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == set(PRINTS)
    index = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert {f"{name}.py" for name in names} | {"plugin/README.md"} == set(re.findall(r"\]\(([^)]+)\)", index))


@pytest.mark.parametrize("name", sorted(PRINTS))
def test_each_says_how_it_is_run(name: str) -> None:
    """In its docstring, with what it prints."""
    text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    assert re.match(rf'"""(?s:.)+?\n\nRun:     python examples/{name}\.py.*\nPrints:  ', text)


@pytest.mark.vllm
@pytest.mark.parametrize("name", sorted(PRINTS))
def test_it_runs(name: str, server: Server, tmp_path: Path) -> None:
    printed = run(server, tmp_path, sys.executable, EXAMPLES / f"{name}.py")
    assert re.fullmatch(PRINTS[name], printed, re.MULTILINE), printed


@pytest.mark.vllm
def test_the_plugin_is_served(server: Server, tmp_path: Path) -> None:
    """As its README says."""
    options = ("--strategy", "first_good", "--param", 'verifier={"brief": 5}', "--max-tokens", "24", "--seed", "1")
    assert run(server, tmp_path, BIN / "ponder", "ask", "Name a colour.", *options).strip()
