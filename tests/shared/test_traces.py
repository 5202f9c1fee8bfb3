"""Search traces of several front ends: the one that has a trace is asked for it, and nobody else."""

import asyncio
import json
import time

import httpx
import pytest
import redis

from tests.shared.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def calls() -> list[httpx.Request]:
    """The calls between front ends."""
    return []


@pytest.fixture
def connect(calls):
    """`await connect(a, b)`: `b` reaches `a`, in this process."""

    async def connected(a, b) -> None:
        class Transport(httpx.ASGITransport):
            async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
                calls.append(request)
                return await super().handle_async_request(request)

        traces = b.app.state.pools.first.shared.traces
        await traces._client.aclose()
        traces._client = httpx.AsyncClient(transport=Transport(a.app, raise_app_exceptions=False))

    return connected


async def asked(served, **fields: object) -> str:
    """Ask one question; return the id of its trace, when the others may know of it."""
    reply = await served.chat(ponder={"strategy": "direct"}, **fields)
    trace_id = reply.json()["ponder"]["trace_id"]
    traces = served.app.state.pools.first.shared.traces
    await until(lambda: any(known == trace_id for _, known in traces._told or ()))
    return trace_id


async def test_a_trace_is_read_at_any_front_end(front_end, valkey, connect, calls) -> None:
    """With the caller's key and nothing else of its request."""
    keys = {"api_keys": "one,two"}
    async with front_end("a", valkey.url, **keys) as a, front_end("b", valkey.url, **keys) as b:
        await connect(a, b)
        for served in (a, b):
            served.client.headers["Authorization"] = "Bearer one"
        trace_id = await asked(a)
        own = (await a.client.get(f"/v1/traces/{trace_id}")).json()
        found = await b.client.get(f"/v1/traces/{trace_id}", headers={"cookie": "secret=1", "x-mine": "2"})
        assert (found.status_code, found.json()) == (200, own)
        [call] = calls
        assert call.headers["authorization"] == "Bearer one"
        assert not {"cookie", "x-mine"} & set(call.headers)
        for other in (
            b.client.get(f"/v1/traces/{trace_id}", headers={"Authorization": "Bearer two"}),
            b.client.get("/v1/traces/x"),
        ):
            assert (await other).json()["error"]["code"] == "trace_not_found"
        assert len(calls) == 1


async def test_feedback_is_given_at_any_front_end(front_end, valkey, connect) -> None:
    async with front_end("a", valkey.url) as a, front_end("b", valkey.url) as b:
        await connect(a, b)
        trace_id = await asked(a)
        given = await b.client.post("/v1/feedback", json={"trace_id": trace_id, "correct": True})
        assert (given.status_code, given.json()["correct"]) == (200, True)
        opposite = await b.client.post("/v1/feedback", json={"trace_id": trace_id, "correct": False})
        assert (opposite.status_code, opposite.json()["error"]["param"]) == (400, "correct")
        unknown = await b.client.post("/v1/feedback", json={"trace_id": "x", "correct": True})
        assert unknown.json()["error"]["code"] == "trace_not_found"


async def test_front_ends_never_ask_in_a_circle(front_end, valkey, connect, calls) -> None:
    """One that was asked by another answers by itself, whatever the store says of who has the trace."""
    async with front_end("a", valkey.url) as a, front_end("b", valkey.url) as b:
        await connect(a, b)
        await connect(b, a)
        ids = [one.app.state.pools.first.shared.front_end for one in (a, b)]
        trace_id = await asked(a)
        with redis.Redis(port=valkey.port) as client:
            client.sunionstore("{ponder:1}:traces:" + ids[1], "{ponder:1}:traces:" + ids[0])
        a.app.state.pools.first.observers.traces._kept.clear()
        reply = await b.client.get(f"/v1/traces/{trace_id}")
        assert reply.json()["error"]["code"] == "trace_not_found"
        assert len(calls) == 1


async def test_keys_are_sent_only_to_who_knows_them(front_end, valkey, connect, calls) -> None:
    """Whoever may write into the store cannot make front ends send their callers' keys elsewhere."""
    async with front_end("a", valkey.url, api_keys="one") as a, front_end("b", valkey.url, api_keys="one") as b:
        await connect(a, b)
        for served in (a, b):
            served.client.headers["Authorization"] = "Bearer one"
        trace_id = await asked(a)
        own = a.app.state.pools.first.shared.front_end
        with redis.Redis(port=valkey.port) as client:
            seal = json.loads(client.hget("{ponder:1}:beats", own))["seal"]
            for name, given in (("evil", ""), ("worse", seal), ("none", "\u00e9")):
                beat = {"url": "http://evil.example", "seal": given}
                client.hset("{ponder:1}:beats", name, json.dumps(beat))
                client.zadd("{ponder:1}:front-ends", {name: time.time() * 1000 + 60_000})
                client.sunionstore(f"{{ponder:1}}:traces:{name}", "{ponder:1}:traces:" + own)
            client.delete("{ponder:1}:traces:" + own)
            await until(lambda: len(b.app.state.pools.first.shared.front_ends.others()) == 3)
            assert (await b.client.get(f"/v1/traces/{trace_id}")).status_code == 404
        assert calls == []


async def test_errors_of_the_other_are_the_usual_404(front_end, valkey) -> None:
    """It cannot be reached, or it has dropped the trace meanwhile; likewise while the store is away."""
    async with front_end("a", valkey.url) as a, front_end("b", valkey.url) as b:
        trace_id = await asked(a)
        replies = [await b.client.get(f"/v1/traces/{trace_id}")]
        valkey.kill()
        await until(lambda: not b.app.state.pools.first.shared.is_up)
        replies.append(await b.client.get(f"/v1/traces/{trace_id}"))
        assert {(reply.status_code, reply.json()["error"]["code"]) for reply in replies} == {(404, "trace_not_found")}
        assert (await a.client.get(f"/v1/traces/{trace_id}")).status_code == 200
        valkey.start()


async def test_an_emptied_store_knows_the_traces_again(front_end, valkey, connect) -> None:
    async with front_end("a", valkey.url) as a, front_end("b", valkey.url) as b:
        await connect(a, b)
        trace_id = await asked(a)
        valkey.kill()
        valkey.start()

        async def is_found() -> bool:
            return (await b.client.get(f"/v1/traces/{trace_id}")).status_code == 200

        await until(is_found)


async def test_two_processes_find_each_other(process, valkey) -> None:
    """Over HTTP, at the URL that is announced by default, which is that of the port."""
    one, other = [process(name, shared_state_url=valkey.url) for name in "ab"]
    for started in (one, other):
        await asyncio.to_thread(started.wait)
    async with httpx.AsyncClient(base_url=one.url) as a, httpx.AsyncClient(base_url=other.url) as b:
        body = {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}], "ponder": {"strategy": "direct"}}
        trace_id = (await a.post("/v1/chat/completions", json=body)).json()["ponder"]["trace_id"]

        async def is_found() -> bool:
            return (await b.get(f"/v1/traces/{trace_id}")).status_code == 200

        await until(is_found)
        assert (await a.get(f"/v1/traces/{trace_id}")).json() == (await b.get(f"/v1/traces/{trace_id}")).json()
