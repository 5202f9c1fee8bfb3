"""The same for scripts and notebooks: no `await`, whatever loop runs already."""

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pydantic
import pytest

import ponder

SUM = "What is 17 + 25?"

FORGETFUL = """
import asyncio, ponder, sys

class Engine(ponder.ScriptedEngine):
    async def close(self):
        await asyncio.to_thread(print, "closed", flush=True)  # as vLLM's processes are ended

model = ponder.Ponder(engine=Engine(ponder.cycle(["42"])), adapter_dir=sys.argv[1], shipped_adapters=False)
print(model.ask("What is 17 + 25?").text)
"""

UNGUARDED = """
import multiprocessing, ponder, sys
model = ponder.Ponder(engine=ponder.ScriptedEngine(ponder.cycle(["42"])), adapter_dir=sys.argv[1], shipped_adapters=False)
worker = multiprocessing.get_context("spawn").Process(target=print)
worker.start()
worker.join()
"""


def test_it_answers(notebook) -> None:
    assert notebook.name == "scripted"
    answer = notebook.ask(SUM, strategy="self_consistency", n=8)
    assert (answer.text, answer.stop_reason) == ("17 + 25 = 42", "settled")
    assert notebook.explain(SUM, n=3, strategy="best_of_n")["predicted"]["branches"] == 3


@pytest.mark.anyio
async def test_it_answers_where_a_loop_runs(notebook) -> None:
    """A cell of a notebook is run by a loop: `asyncio.run` would fail there."""
    assert asyncio.get_running_loop().is_running()
    assert notebook.ask(SUM).text == "17 + 25 = 42"


def test_many_questions_have_their_answers_in_order(settings) -> None:
    engine = ponder.ScriptedEngine(lambda prompt, _serial: prompt.split()[1], seconds_per_token=0.001)
    with ponder.Ponder(engine=engine, **settings) as model:
        answers = model.ask_all([f"{number} is a number" for number in range(20)], at_once=4, strategy="direct")
    assert [answer.text for answer in answers] == [str(number) for number in range(20)]


def test_several_threads_may_ask(notebook) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: notebook.ask(SUM, strategy="best_of_n", n=2).text, range(8)))


def test_an_error_reaches_whoever_asked(notebook) -> None:
    with pytest.raises(ponder.InvalidRequest, match="no strategy"):
        notebook.ask(SUM, strategy="nonsense")
    assert notebook.ask(SUM).text


def test_a_wrong_setting_is_refused_at_once(engine, settings) -> None:
    """And leaves no thread."""
    with pytest.raises(pydantic.ValidationError, match="max_n"):
        ponder.Ponder(engine=engine, max_n=0, **settings)
    assert not [thread for thread in threading.enumerate() if thread.name == "ponder" and thread.join(5)]


def test_a_closed_model_says_so(engine, settings) -> None:
    with ponder.Ponder(engine=engine, **settings) as model:
        pass
    model.close()
    with pytest.raises(RuntimeError, match="closed"):
        model.ask(SUM)


def test_a_forgotten_model_is_closed_with_the_interpreter(tmp_path) -> None:
    run = subprocess.run([sys.executable, "-c", FORGETFUL, tmp_path], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout.split(), run.stderr) == (0, ["42", "closed"], "")


def test_a_script_that_its_own_workers_would_run_is_told_so(tmp_path) -> None:
    """VLLM spawns its processes on CPU, and each imports the script."""
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    run = subprocess.run([sys.executable, script, tmp_path / "adapters"], capture_output=True, text=True, timeout=60)
    assert 'under `if __name__ == "__main__":`' in run.stderr
