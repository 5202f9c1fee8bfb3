"""Verifiers that are rules of your own: a pattern, a number, or an arithmetic puzzle.

Such a rule does not err. So the search ends with the first answer that it accepts, and the candidates that are still running are
cancelled. Other verifiers score what no rule can decide: `likelihood`, `equations`, an adapter, a reward model.

Run:     python examples/rule_as_verifier.py       (a server must run: `make serve`)
Prints:  for each rule how many candidates were drawn and whether one was accepted (`verified`)
"""

import os

from openai import OpenAI

client = OpenAI(base_url=os.environ.get("PONDER_URL", "http://localhost:8000") + "/v1", api_key="none")


def search(question: str, rule: dict) -> None:
    """Draw up to four answers, and stop at the first that satisfies the rule."""
    reply = client.chat.completions.create(
        model="reasoning",
        messages=[{"role": "user", "content": question}],
        max_tokens=48,
        seed=1,
        extra_body={"ponder": {"strategy": "best_of_n", "n": 4, "verifier": rule}},
    )
    account = reply.model_extra["ponder"]
    print(f"{next(iter(rule))}: {account['stop_reason']} after {len(account['candidates'])} candidates")


search("Calculate 12 + 30.", {"regex": r"####\s*42\b"})
search("Calculate 12 + 30.", {"number": 42})
search(
    "Using the numbers 2, 3 and 4 and the operations + - * /, write an expression that equals 10.",
    {"arithmetic": {"numbers": [2, 3, 4], "target": 10}},
)
