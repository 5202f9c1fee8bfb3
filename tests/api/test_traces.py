"""The list of a key's own traces: the newest first, none of other keys, and no more than requested."""

import asyncio

import pytest

pytestmark = pytest.mark.anyio


async def listed(served, **kwargs: object) -> list[dict]:
    reply = await served.client.get("/v1/traces", **kwargs)
    assert reply.status_code == 200
    assert reply.json()["object"] == "list"
    return reply.json()["data"]


async def test_the_newest_is_first_and_says_what_it_cost(serve) -> None:
    async with serve() as served:
        assert await listed(served) == []
        replies = [(await served.chat(ponder={"strategy": name})).json()["ponder"] for name in ("direct", "self_consistency")]
        newest, oldest = await listed(served)
    assert [newest["id"], oldest["id"]] == [reply["trace_id"] for reply in reversed(replies)]
    assert newest["flops"] == replies[1]["flops"]["total"]
    assert newest["num_nodes"] == len(replies[1]["candidates"])
    told = {key: newest[key] for key in ("object", "model", "strategy", "status")}
    assert told == {"object": "ponder.trace", "model": "scripted", "strategy": "self_consistency", "status": "completed"}


async def test_a_running_request_is_listed_without_a_cost(serve) -> None:
    async with serve(seconds_per_token=1) as served:
        asking = asyncio.create_task(served.chat(ponder={"strategy": "direct"}))
        while not (data := await listed(served)):  # noqa: ASYNC110 - over HTTP
            await asyncio.sleep(0.01)
        asking.cancel()
    assert (data[0]["status"], data[0]["flops"]) == ("running", None)


async def test_another_key_s_traces_are_not_listed(serve) -> None:
    async with serve(api_keys="one,two") as served:
        one, two = ({"Authorization": f"Bearer {key}"} for key in ("one", "two"))
        body = {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]}
        await served.client.post("/v1/chat/completions", json=body, headers=one)
        assert len(await listed(served, headers=one)) == 1
        assert await listed(served, headers=two) == []
        assert (await served.client.get("/v1/traces")).status_code == 401


async def test_the_limit_holds(serve) -> None:
    """The limit is 20 by default and 100 at most. A wrong limit is refused by name."""
    async with serve() as served:
        for _ in range(22):
            await served.chat(ponder={"strategy": "direct"})
        assert len(await listed(served)) == 20
        assert len(await listed(served, params={"limit": 21})) == 21
        for wrong in ("0", "101", "x"):
            refused = await served.client.get("/v1/traces", params={"limit": wrong})
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "query.limit")
