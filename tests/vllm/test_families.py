"""Tiny random models of the families that people run, each on real vLLM: strategies work, and tokens and FLOPs are counted."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.engine.architecture import Architecture
from app.engine.flops.decoder import FAMILIES
from app.engine.speculation import Drafts, Speculation
from app.engine.weights.default_model import ensure_default_model
from app.settings import Settings
from tests.tools import ROOT
from tests.vllm.families import DRAFT, DRAFT_FOLDER, SERVED, WAYS, is_chosen, write_model

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]

PLANS: tuple[dict[str, Any], ...] = (
    {"strategy": "direct"},
    {"strategy": "self_consistency", "n": 4, "answer": "math"},
    {"strategy": "beam_search", "n": 4, "verifier": "likelihood", "step_tokens": 8},
)
CHOSEN, CHOSEN_WAYS = [list(filter(is_chosen, every)) for every in (SERVED, WAYS)]
JOBS = [(family.model_type, ()) for family in CHOSEN] + [(way.model_type, way.options) for way in CHOSEN_WAYS]
NAMES = [family.model_type for family in CHOSEN] + [way.title for way in CHOSEN_WAYS]


def body(ponder: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a request of few tokens."""
    question = [{"role": "user", "content": "What is 17 + 25?"}]
    return {"messages": question, "max_tokens": 24, "seed": 1, "ponder": ponder, **fields}


class Jobs:
    """Reads what `serve_models` writes. It serves one model after another, and a test waits for its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        tokenizer = ensure_default_model(Settings().cache_dir.expanduser(), print)
        for family in CHOSEN:
            write_model(family, folder / family.model_type, tokenizer)
        write_model(DRAFT, folder / DRAFT_FOLDER, tokenizer)
        greedy, *sampled = PLANS  # a model that repeats itself shows what n-grams draft
        bodies = [body(greedy, temperature=0, logprobs=True), *map(body, sampled)]
        refused = [body(greedy, min_p=0.1), body(greedy, logit_bias={"5": 1})]
        jobs = [
            {
                "model": str(folder / name),
                "options": [option.replace(DRAFT_FOLDER, str(folder / DRAFT_FOLDER)) for option in options],
                "bodies": [*bodies, *refused] if "--speculative-config" in options else bodies,
            }
            for name, options in JOBS
        ]
        (folder / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "tests.vllm.serve_models", folder / "jobs.json"]
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
            )
        self.told: list[dict[str, Any]] = []

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Wait for what came of a job."""
        while len(self.told) <= number:
            line = self.process.stdout.readline()
            assert line, self.log.read_text(errors="replace")[-4000:]
            self.told.append(json.loads(line))
        told = self.told[number]
        assert "error" not in told, f"{told['error']}\n{self.log.read_text(errors='replace')[-4000:]}"
        return told


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    """The process that serves the models."""
    jobs = Jobs(tmp_path_factory.mktemp("families"))
    yield jobs
    with suppress(ProcessLookupError):
        os.killpg(jobs.process.pid, signal.SIGKILL)  # with vLLM's processes
    jobs.process.communicate()


@pytest.mark.parametrize("number", range(len(JOBS)), ids=NAMES)
def test_a_model_is_served(jobs: Jobs, number: int) -> None:
    """To the token, as vLLM counts them, and to the FLOP, as the config in the folder has it."""
    (model_type, options), told = JOBS[number], jobs[number]
    replies, refusals = told["replies"][: len(PLANS)], told["replies"][len(PLANS) :]
    assert [reply["status"] for reply in replies] == [200] * len(PLANS), replies
    assert [reply["status"] for reply in refusals] == [400] * len(refusals)
    assert all("speculative" in reply["error"]["message"] for reply in refusals)
    accounts = [reply["ponder"] for reply in replies]
    assert [account["strategy"] for account in accounts] == [plan["strategy"] for plan in PLANS]
    tokens = {kind: sum(account["tokens"][kind] for account in accounts) for kind in accounts[0]["tokens"]}
    assert told["grown"]["generated"] == told["grown"]["decoded"] == tokens["decoded"] > 0
    assert told["grown"]["asked"] == tokens["prefilled"] + tokens["cached"]
    assert told["is_estimate"] == (model_type not in FAMILIES)
    assert {account["flops"]["is_estimate"] for account in accounts} == {bool(told["is_estimate"])}
    assert told["slots"] == (16 if "--data-parallel-size" in options else 8)
    direct = accounts[0]
    cached, generated, drafted = (direct["tokens"][kind] for kind in ("cached", "decoded", "drafted"))
    assert len(replies[0]["choices"][0]["logprobs"]["content"]) == generated
    assert (drafted > 0) == ("--speculative-config" in options)
    assert told["grown"].get("drafted", 0) >= tokens["drafted"]  # a branch that a vote ended tells of none
    architecture = architecture_of(jobs.folder / model_type)
    prefill, decode = architecture.branch_cost(direct["tokens"]["prefilled"] + cached, cached, generated)
    assert direct["flops"]["prefill"] == prefill
    draft = architecture_of(jobs.folder / DRAFT_FOLDER) if DRAFT_FOLDER in " ".join(options) else None
    cost = partial(Speculation(draft, 3).extra_cost, architecture, direct["tokens"]["prefilled"] + cached, cached, generated)
    assert direct["flops"]["decode"] - decode in {cost(Drafts(drafted, accepted)) for accepted in range(drafted + 1)}


def architecture_of(folder: Path) -> Architecture:
    """Read a model as it was written, without vLLM."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as weights:
        sizes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118 - not a dict
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return Architecture.from_config(config, sum(math.prod(size) for size in sizes))
