"""The plans of forty requests of all kinds, for a model that was calibrated on mathematics and choices, and for one that was not."""

import pytest

from tests.example_policies import policy

pytestmark = pytest.mark.anyio

SCHEMA = {"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "object"}}}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CODE = "```python\nfor i in range(3):\n    print(i)\n```\nWhat is wrong with this?"

DIRECT, MANY, THINK = "direct", "self_consistency n=16", "adaptive"

REQUESTS: list[tuple[str, dict[str, object], str, str]] = [
    # the question, fields of the request, the plan of an uncalibrated model, the plan of a model calibrated on maths and choices
    ("What is 17 + 25?", {}, THINK, THINK),
    ("17 * 25 =", {}, THINK, THINK),
    ("Solve 3x + 5 = 20.", {}, THINK, THINK),
    ("How many legs do 3 dogs and 4 chickens have?", {}, THINK, THINK),
    ("A train travels 60 km in 1.5 hours. How fast is it going?", {}, THINK, THINK),
    ("Weng earns $12 an hour and worked 50 minutes. How much did she earn?", {}, THINK, THINK),
    ("What is the remainder when 100 is divided by 7?", {}, THINK, THINK),
    ("Evaluate \\frac{1}{2} + \\frac{1}{3}.", {}, THINK, THINK),
    ("What is 15% of 80?", {"reasoning_effort": "low"}, THINK, THINK),
    ("What is 15% of 80?", {"reasoning_effort": "high"}, THINK, THINK),
    ("What is 15% of 80?", {"effort": "high"}, THINK, THINK),
    ("What is 15% of 80?", {"temperature": 0}, DIRECT, DIRECT),
    ("What is 15% of 80?", {"temperature": 0.9}, THINK, THINK),
    ("What is 15% of 80?", {"n": 3}, DIRECT, DIRECT),
    ("What is 15% of 80?", {"answer": "open"}, DIRECT, DIRECT),
    ("What is 15% of 80?", {"strategy": "best_of_n", "n_": 2}, "best_of_n n=2", "best_of_n n=2"),
    ("Which planet is red?\nA. Venus\nB. Mars\nC. Jupiter", {}, THINK, THINK),
    ("Which is a fruit?\n(A) brick (B) apple (C) car", {}, THINK, THINK),
    ("Is water wet? A) yes B) no", {"reasoning_effort": "low"}, THINK, THINK),
    ("How many r are in strawberry?", {"answer": "text"}, THINK, THINK),
    ("Spell the word `stone` backwards.", {"answer": "text"}, THINK, THINK),
    ("Hello there!", {}, DIRECT, DIRECT),
    ("Who are you?", {"reasoning_effort": "high"}, DIRECT, DIRECT),
    ("Tell me about your day.", {}, DIRECT, DIRECT),
    ("Write a poem about 3 cats.", {}, DIRECT, DIRECT),
    ("Explain why the sky is blue.", {}, DIRECT, DIRECT),
    ("Explain how to solve 3x + 5 = 20.", {}, DIRECT, DIRECT),
    ("Translate 'I have 3 dogs' to French.", {}, DIRECT, DIRECT),
    ("Summarize this: profits rose 5% to 3 million in 2020.", {}, DIRECT, DIRECT),
    ("Draft an email to 20 customers about 10% off.", {}, DIRECT, DIRECT),
    ("Can you help me plan a 3 day trip to Rome?", {}, DIRECT, DIRECT),
    ("Give me 5 ideas for a party.", {"reasoning_effort": "high"}, DIRECT, DIRECT),
    ("Write a function that adds 2 numbers", {}, DIRECT, DIRECT),
    ("Write a Python program to compute 5!", {"reasoning_effort": "high"}, DIRECT, DIRECT),
    (CODE, {}, DIRECT, DIRECT),
    ("SQL query for the top 10 users?", {}, DIRECT, DIRECT),
    ("Name a city as JSON.", {"response_format": SCHEMA}, DIRECT, DIRECT),
    ("What is 17 + 25?", {"response_format": {"type": "json_object"}, "reasoning_effort": "high"}, MANY, MANY),
    ("What is the weather in Rome?", {"tools": TOOLS}, DIRECT, DIRECT),
    ("What is 17 + 25?", {"tools": TOOLS, "reasoning_effort": "high"}, MANY, MANY),
]


async def plan(served, question: str, fields: dict[str, object]) -> str:
    """The strategy, with its n where it votes."""
    ours = {name: value for name, value in fields.items() if name in ("strategy", "effort", "answer")}
    ours |= {"n": fields["n_"]} if "n_" in fields else {}
    theirs = {name: value for name, value in fields.items() if name not in (*ours, "n_")} if "n_" not in fields else {}
    reply = await served.chat(question, ponder={"dry_run": True, **ours}, **theirs)
    assert reply.status_code == 200, reply.text
    preview = reply.json()["ponder"]
    n = preview["plan"]["parameters"].get("n")
    return preview["strategy"] if preview["strategy"] in (DIRECT, THINK) else f"{preview['strategy']} n={n}"


def test_there_are_forty_of_all_kinds() -> None:
    assert len(REQUESTS) == 40


@pytest.mark.parametrize("is_calibrated", [False, True])
async def test_every_request_gets_its_plan(serve, tmp_path, is_calibrated: bool) -> None:
    async with serve(policy_dir=tmp_path) as served:
        if is_calibrated:
            file = policy(model="scripted", kinds=("math", "choice"))
            put = await served.client.put("/v1/policies/scripted", content=file.model_dump_json())
            assert put.status_code == 200
        plans = [await plan(served, question, fields) for question, fields, *_ in REQUESTS]
    expected = [calibrated if is_calibrated else prior for *_, prior, calibrated in REQUESTS]
    wrong = [
        (question, fields, actual, right)
        for (question, fields, *_), actual, right in zip(REQUESTS, plans, expected, strict=True)
        if actual != right
    ]
    assert not wrong
