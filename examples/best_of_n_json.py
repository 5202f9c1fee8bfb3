"""Best-of-n with a JSON schema: every candidate is valid JSON, and the most likely one is chosen.

`response_format` constrains what is generated, as in OpenAI's API. The verifier `likelihood` scores the candidates by their own
probability.

Run:     python examples/best_of_n_json.py         (a server must run: `make serve`)
Prints:  each candidate's score, then the chosen object
"""

import json
import os

from openai import OpenAI

client = OpenAI(base_url=os.environ.get("PONDER_URL", "http://localhost:8000") + "/v1", api_key="none")

schema = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "country": {"type": "string", "maxLength": 20}},
    "required": ["city", "country"],
    "additionalProperties": False,
}
reply = client.chat.completions.create(
    model="smollm2-135m",
    messages=[{"role": "user", "content": "Which city has the Eiffel Tower? Answer in JSON with city and country."}],
    response_format={"type": "json_schema", "json_schema": {"name": "place", "schema": schema}},
    max_tokens=64,
    seed=1,
    extra_body={"ponder": {"strategy": "best_of_n", "n": 4, "verifier": "likelihood"}},
)
for candidate in reply.model_extra["ponder"]["candidates"]:
    print(f"candidate {candidate['index']}: score {candidate['score']:.2f}, {candidate['finish_reason']}")
print(json.loads(reply.choices[0].message.content))
