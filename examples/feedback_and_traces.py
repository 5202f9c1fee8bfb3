"""What a search did, node by node, and feedback on its answer.

The server keeps the last searches. `/v1/traces/{id}` has every node with its text, score and cost. `/v1/feedback` says whether the
answer was right: it is counted in the metrics, and with `--feedback-path` the question is kept for the next `ponder calibrate`.

Run:     python examples/feedback_and_traces.py    (a server must run: `make serve`)
Prints:  each answer of the search, the chosen one marked, and that the feedback was taken
"""

import os

import httpx

server = httpx.Client(base_url=os.environ.get("PONDER_URL", "http://localhost:8000"), timeout=300)

reply = server.post(
    "/v1/chat/completions",
    json={
        "model": "reasoning",
        "messages": [{"role": "user", "content": "Calculate 17 + 25 + 8."}],
        "max_tokens": 48,
        "seed": 1,
        "ponder": {"strategy": "self_consistency", "n": 4},
    },
)
trace_id = reply.raise_for_status().json()["ponder"]["trace_id"]

right = False
for node in server.get(f"/v1/traces/{trace_id}").raise_for_status().json()["nodes"]:
    is_chosen = node["state"] == "chosen"
    right = right or (is_chosen and node["answer"] == "50")
    mark = "*" if is_chosen else " "
    print(f"{mark} {node['answer']!s:>6}  {node['tokens']} tokens, {node['flops'] / 1e9:.1f} GFLOP, {node['seconds']:.2f} s")

feedback = server.post("/v1/feedback", json={"trace_id": trace_id, "correct": right}).raise_for_status().json()
print("feedback taken, question kept:", feedback["kept"])
