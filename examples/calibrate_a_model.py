"""Calibrate a model: measure what each way to think gains and costs on questions with known answers, and serve the policy.

Twenty sums and two samples each, so that it takes minutes on a laptop; a policy worth having needs hundreds of questions of the kind
that the model will be asked.

Run:     python examples/calibrate_a_model.py      (a server must run: `make serve`)
Prints:  the plan for a question before and after the policy was given to the server
"""

import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

server = httpx.Client(base_url=os.environ.get("PONDER_URL", "http://localhost:8000"), timeout=300)


def plan() -> str:
    """The reason for the plan that the server would choose."""
    body = {
        "model": "smollm2-135m", "messages": [{"role": "user", "content": "What is 7 + 5?"}], "ponder": {"dry_run": True},
    }  # fmt: skip
    return server.post("/v1/chat/completions", json=body).raise_for_status().json()["ponder"]["plan"]["why"]


with tempfile.TemporaryDirectory() as folder:
    questions, measured = Path(folder, "questions.jsonl"), Path(folder, "measured")
    with questions.open("w") as file:
        for a, b in random.Random(1).sample([(a, b) for a in range(10) for b in range(10)], 20):
            messages = [{"role": "user", "content": f"What is {a} + {b}?"}]
            print(json.dumps({"messages": messages, "answer": str(a + b)}), file=file)

    print("before:", plan())
    options = ["--samples", "2", "--backtracked", "0", "--max-tokens", "24", "--concurrency", "8"]
    searches = ["--searches", "best_of_n n=2 verifier=likelihood"]  # besides the samples
    command = [sys.executable, "-m", "ponder", "calibrate", "--data", questions, "--out", measured, *options, *searches]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    policy = (measured / "policy.json").read_bytes()
    server.put("/v1/policies/smollm2-135m", content=policy).raise_for_status()
    print("after:", plan())
    server.post("/v1/policies/smollm2-135m/choose", json={"number": None}).raise_for_status()
