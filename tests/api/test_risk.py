"""`ponder.risk` asks for the cheapest plan that is known to lose at most so much accuracy, and the reply says where nothing is known."""

import pytest

from app.routing.policy_file import Risk, RiskPoint
from tests.example_policies import policy

pytestmark = pytest.mark.anyio

RISK = Risk(
    plan="backtracking n=4", strategy="backtracking", params={"n": 4, "attempts": 3}, questions=100,
    points=(RiskPoint(price=1.0, loss=0.09, bound=0.1), RiskPoint(price=1e-9, loss=0.04, bound=0.05)),
)  # fmt: skip


async def asked(served, risk: float, **fields: object) -> dict:
    reply = await served.chat(ponder={"risk": risk, **fields.pop("ponder", {})}, **fields)
    assert reply.status_code == 200
    return reply.json()["ponder"]


async def put(served, **fields: object) -> None:
    content = policy(model="scripted", hard=0.7, risk=RISK, **fields).model_dump_json()
    assert (await served.client.put("/v1/policies/scripted", content=content)).status_code == 200


async def test_the_dearest_price_that_holds_the_risk_is_taken(serve) -> None:
    """At the dear price no second answer pays; at the cheap one it does."""
    async with serve() as served:
        await put(served)
        high, low = await asked(served, 0.1), await asked(served, 0.05)
    assert (high["strategy"], high["branches"]["drawn"]) == ("adaptive", 1)
    assert "at most 0.100" in high["plan"]["why"]
    assert (low["strategy"], low["branches"]["drawn"]) == ("adaptive", 4)


async def test_where_no_price_holds_the_risk_the_best_fixed_plan_answers(serve) -> None:
    """And the reply says so."""
    async with serve() as served:
        await put(served)
        reply = await asked(served, 0.01)
    assert (reply["strategy"], reply["plan"]["parameters"]["n"]) == ("backtracking", 4)
    assert "most accurate fixed plan" in reply["plan"]["why"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"ponder": {"strategy": "direct"}}, "the caller named the strategy"),
        ({"temperature": 0.9}, "the caller sets the sampling"),
        ({"content": "Write a poem on the sea."}, "no policy says"),
        ({"model": "auto"}, "the server chooses the model"),
    ],
)
async def test_the_reply_says_where_nothing_is_held(serve, fields, reason) -> None:
    async with serve() as served:
        await put(served)
        reply = await asked(served, 0.1, **fields)
    assert f"the risk is not held: {reason}" in reply["plan"]["why"]


async def test_a_model_without_a_policy_holds_nothing(serve) -> None:
    async with serve() as served:
        reply = await asked(served, 0.1)
    assert "the risk is not held: no policy says what would be lost" in reply["plan"]["why"]


@pytest.mark.parametrize("risk", [-0.1, 1.1, "much", [0.1]])
async def test_a_risk_is_a_share(serve, risk) -> None:
    async with serve() as served:
        reply = await served.chat(ponder={"risk": risk})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"].startswith("ponder.risk")
