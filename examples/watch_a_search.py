"""A search over the steps of an answer, watched while it runs.

The stream carries progress as `reasoning`, which clients such as Open WebUI show, and with `show_nodes` every node of the search tree.
The verifier `equations` scores a step by the equations that it writes.

Run:     python examples/watch_a_search.py         (a server must run: `make serve`)
Prints:  the lines of progress, the number of nodes by what became of them, and the answer
"""

import os
from collections import Counter

from openai import OpenAI

client = OpenAI(base_url=os.environ.get("PONDER_URL", "http://localhost:8000") + "/v1", api_key="none")

stream = client.chat.completions.create(
    model="reasoning",
    messages=[{"role": "user", "content": "Calculate (3 + 4) * 6 - 2."}],
    max_tokens=64,
    seed=1,
    stream=True,
    extra_body={
        "ponder": {"strategy": "beam_search", "n": 4, "verifier": "equations", "separator": "\n", "show_nodes": True},
    },
)
answer, states = "", {}
for chunk in stream:
    for choice in chunk.choices:
        answer += choice.delta.content or ""
        if line := (choice.delta.model_extra or {}).get("reasoning"):
            print("progress:", line.strip())
    for node in ((chunk.model_extra or {}).get("ponder") or {}).get("nodes", ()):
        states[node["id"]] = node["state"]  # the last word on a node counts

print("nodes:", dict(Counter(states.values())))
print("answer:", answer)
