"""The list of a key's own traces: the newest first, none of other keys, and no more than requested."""

import asyncio

import pytest

from app.search_traces import NODE_CHARS, SearchTrace, SearchTraces
from strategies.core.results import TraceNode

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


@pytest.mark.parametrize("bounds", [(4, 10**6), (10**6, 4 * NODE_CHARS)])
def test_a_key_pushes_out_its_own_traces_alone(bounds: tuple[int, int]) -> None:
    """By their number, and by their size."""
    traces = SearchTraces(*bounds)
    for owner, number in (("one", 0), *(("many", number) for number in range(10))):
        with traces.recorded(owner, SearchTrace(f"{owner}{number}", "m", "direct")) as trace:
            trace.update(0, [TraceNode(id=0, parent=None, text="", tokens=1)])
    assert [trace.id for trace in traces.newest("one", 10)] == ["one0"]
    assert [trace.id for trace in traces.newest("many", 10)] == ["many9", "many8", "many7"]


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
