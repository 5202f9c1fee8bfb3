"""A first request, with OpenAI's own client.

The adapter `reasoning` that is shipped with the embedded model works in short steps. No strategy is named, so the server chooses one by
the policy of the adapter, and says in the field `ponder` what it did and what it cost.

Run:     python examples/first_request.py          (a server must run: `make serve`)
Prints:  the worked answer, then a line such as `adaptive, settled: 74 tokens, 25.1 GFLOP`
"""

import os

from openai import OpenAI

client = OpenAI(base_url=os.environ.get("PONDER_URL", "http://localhost:8000") + "/v1", api_key="none")

reply = client.chat.completions.create(
    model="reasoning",
    messages=[{"role": "user", "content": "Calculate 17 + 25 + 8."}],
    max_tokens=64,
    seed=1,
)
print(reply.choices[0].message.content)

account = reply.model_extra["ponder"]
gflop = account["flops"]["total"] / 1e9
print(f"{account['strategy']}, {account['stop_reason']}: {account['tokens']['decoded']} tokens, {gflop:.1f} GFLOP")
