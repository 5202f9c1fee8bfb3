"""What a request would take, and a budget that it may not exceed.

With `dry_run` the server generates nothing: it answers with the plan and what it expects it to take. A budget may be in tokens, FLOPs
and seconds. It counts every candidate, and when it is spent the best answer so far is returned.

Run:     python examples/budget_and_dry_run.py     (a server must run: `make serve`)
Prints:  the expected cost of 16 candidates, then what was spent of a budget of 100 tokens, and why the search stopped
"""

import os

import httpx

server = httpx.Client(base_url=os.environ.get("PONDER_URL", "http://localhost:8000"), timeout=300)
question = {
    "model": "reasoning",
    "messages": [{"role": "user", "content": "Tom has 3 boxes of 4 apples and eats 2. How many are left?"}],
    "max_tokens": 48,
}


def ask(**ponder: object) -> dict:
    """The reply to the question, asked with these fields of `ponder`."""
    reply = server.post("/v1/chat/completions", json={**question, "ponder": {"strategy": "best_of_n", "n": 16, **ponder}})
    reply.raise_for_status()
    return reply.json()


plan = ask(dry_run=True)["ponder"]
expected = plan["predicted"]
print(f"{plan['strategy']}: about {expected['tokens']} tokens and {expected['flops'] / 1e9:.0f} GFLOP")

account = ask(budget={"tokens": 100})["ponder"]
print(f"spent {account['tokens']['decoded']} of 100 tokens, stopped by {account['stop_reason']}")
