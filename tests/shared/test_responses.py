"""Responses of several front ends: continued, read and cancelled at any of them."""

import asyncio
import json
from typing import Any

import httpx
import pytest
import redis

from tests.shared.waiting import until

pytestmark = pytest.mark.anyio

LONG = ["a b c d e f g h i j k l m n o p q r s t u v w x y z"]


async def create(served, content: str = "Hi", **fields: object) -> dict[str, Any]:
    body = {"model": "scripted", "input": content, "ponder": {"strategy": "direct"}, **fields}
    reply = await served.client.post("/v1/responses", json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def read(served, response_id: str) -> dict[str, Any]:
    return (await served.client.get(f"/v1/responses/{response_id}")).json()


async def test_a_conversation_goes_on_at_any_front_end(front_end, valkey) -> None:
    async with front_end("a", valkey.url, ["one"]) as a, front_end("b", valkey.url, ["two"]) as b:
        first = await create(a)
        second = await create(b, "And then?", previous_response_id=first["id"])
        await create(a, "And last?", previous_response_id=second["id"])
        assert (await b.client.delete(f"/v1/responses/{first['id']}")).status_code == 200
        assert (await a.client.get(f"/v1/responses/{first['id']}")).status_code == 404
    said = ["user: Hi", "assistant: one", "user: And then?", "assistant: two", "user: And last?"]
    assert a.engine.branches[-1].prompt.text.split("\n")[:5] == said


async def test_a_background_response_is_read_at_another_front_end(front_end, valkey) -> None:
    """While it runs, and its whole stream at its end."""
    async with front_end("a", valkey.url, LONG, seconds_per_token=0.03) as a, front_end("b", valkey.url) as b:
        made = await create(a, background=True)

        async def is_seen() -> bool:
            return (await read(b, made["id"])).get("status") == "in_progress"

        await until(is_seen)
        streamed = await b.client.get(f"/v1/responses/{made['id']}", params={"stream": True, "starting_after": 1})
        events = [json.loads(line[6:]) for line in streamed.text.split("\n") if line.startswith("data: ")]
        assert [event["sequence_number"] for event in events] == list(range(2, 2 + len(events)))
        assert events[-1]["type"] == "response.completed"
        assert (await read(b, made["id"]))["status"] == "completed"


@pytest.mark.parametrize("how", ["cancel", "delete"])
async def test_a_background_response_is_cancelled_at_another_front_end(front_end, valkey, how: str) -> None:
    """Every branch has ended when the caller has its answer. Another key cannot do that."""
    keys = {"api_keys": "one,two"}
    async with (
        front_end("a", valkey.url, LONG, seconds_per_token=0.2, **keys) as a,
        front_end("b", valkey.url, **keys) as b,
    ):
        for served in (a, b):
            served.client.headers["Authorization"] = "Bearer one"
        made = await create(a, background=True)
        await until(lambda: bool(a.engine.running))
        url = f"/v1/responses/{made['id']}"
        call = b.client.post(f"{url}/cancel", headers={"Authorization": "Bearer two"})
        assert (await call).status_code == 404
        assert a.engine.running
        reply = await (b.client.post(f"{url}/cancel") if how == "cancel" else b.client.delete(url))
        assert reply.status_code == 200
        assert not a.engine.running
        if how == "cancel":
            assert (reply.json()["status"], (await read(a, made["id"]))["status"]) == ("cancelled", "cancelled")
        else:
            assert (await a.client.get(url)).status_code == 404


async def test_a_response_fails_with_its_front_end(front_end, valkey, process) -> None:
    """The others report it as failed when the one that ran it counts as dead."""
    dying = process("a", shared_state_url=valkey.url, seconds_per_token=0.5)
    async with front_end("b", valkey.url) as b:
        await asyncio.to_thread(dying.wait)
        async with httpx.AsyncClient(base_url=dying.url) as client:
            body = {"model": "scripted", "input": "Hi", "background": True, "ponder": {"strategy": "direct"}}
            made = (await client.post("/v1/responses", json=body)).json()

        async def has(status: str) -> bool:
            return (await read(b, made["id"])).get("status") == status

        await until(lambda: has("in_progress"))
        dying.kill()
        assert await until(lambda: has("failed")) > 1
        assert (await read(b, made["id"]))["error"]["code"] == "server_error"


async def test_what_is_made_while_the_store_is_away_is_given_back(front_end, valkey) -> None:
    """Until then it is known where it was made, and anything else is refused for now, not called unknown."""
    async with front_end("a", valkey.url, ["one"]) as a, front_end("b", valkey.url, ["two"]) as b:
        before = await create(a)
        valkey.kill()
        await until(lambda: not a.app.state.pools.first.shared.is_up)
        made = await create(a)
        assert await read(a, made["id"]) == made
        await create(a, previous_response_id=made["id"])
        for call in (
            a.client.get(f"/v1/responses/{before['id']}"),
            b.client.get(f"/v1/responses/{made['id']}"),
            a.client.post("/v1/responses", json={"model": "scripted", "input": "Hi", "previous_response_id": before["id"]}),
        ):
            reply = await call
            assert (reply.status_code, reply.json()["error"]["code"]) == (503, "shared_state_lost")
        valkey.start()

        async def is_there() -> bool:
            return (await b.client.get(f"/v1/responses/{made['id']}")).status_code == 200

        await until(is_there)
        assert await read(b, made["id"]) == made


async def test_responses_of_a_store_with_a_disk_survive_its_death(front_end, durable_valkey) -> None:
    async with front_end("a", durable_valkey.url) as a, front_end("b", durable_valkey.url) as b:
        made = await create(a)
        durable_valkey.kill()
        durable_valkey.start()
        await until(lambda: b.app.state.pools.first.shared.is_up)
        assert await read(b, made["id"]) == made


async def test_a_row_or_a_message_that_is_not_well_formed_is_left_out(front_end, valkey) -> None:
    async with front_end("a", valkey.url) as a:
        made = [await create(a) for _ in range(4)]
        rows = [b"[]", b"\xff", b'{"id": 5}', b'{"id": "x", "status": "completed", "output": [5]}']
        shared = a.app.state.pools.first.shared
        with redis.Redis(port=valkey.port) as client:
            for response, row in zip(made, rows, strict=True):
                client.hset("{ponder:1}:responses:row:anonymous:" + response["id"], "response", row)
            for message in (b"", b"\xff", b"[]", b'{"cancel": "x"}'):
                client.rpush("{ponder:1}:mail:" + shared.front_end, message)
        statuses = [(await a.client.get(f"/v1/responses/{one['id']}")).status_code for one in made]
        await asyncio.sleep(0.3)
        assert statuses == [404] * 4
        assert (await create(a))["status"] == "completed"
        assert shared.is_up
