"""What the Responses API keeps: conversations that go on, bounds, owners, and a restart."""

from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from openai.types.responses import Response
from openai.types.responses.response_item_list import ResponseItemList

from app.api.responses.shared_store import SharedResponses
from app.api.responses.sqlite_store import SqliteStore
from app.api.responses.store import Bounds, Stored
from app.shared.state import SharedState

pytestmark = pytest.mark.anyio

DIRECT = {"strategy": "direct"}


@pytest.fixture(params=["sqlite", "valkey"])
def serve(serve, request: pytest.FixtureRequest):
    """Each test runs over the store of one server, and over that of several front ends."""
    if request.param == "sqlite":
        return serve
    url = request.getfixturevalue("valkey").url
    return lambda *script, **settings: serve(*script, shared_state_url=url, **settings)


@pytest.fixture(params=["sqlite", "valkey"])
def kept(request: pytest.FixtureRequest):
    """`async with kept(bounds) as store`: likewise."""

    @asynccontextmanager
    async def running(bounds: Bounds):
        if request.param == "sqlite":
            store = SqliteStore(None, bounds)
            async with store.running():
                yield store
            return
        shared = SharedState(request.getfixturevalue("valkey").url, "ponder", "http://127.0.0.1:1")
        store = SharedResponses(shared.runner, shared, bounds, SqliteStore(None, bounds))
        async with shared.running(), store.running():
            yield store

    return running


async def create(served, content: object = "Hi", **fields: object) -> dict[str, Any]:
    body = {"model": "scripted", "input": content, "ponder": DIRECT, **fields}
    reply = await served.client.post("/v1/responses", json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_a_conversation_goes_on(serve) -> None:
    """The items and the answer of the response before come first; its instructions do not."""
    async with serve(["one"]) as served:
        first = await create(served, instructions="Be brief.")
        second = await create(served, "And then?", previous_response_id=first["id"])
        await create(served, "And last?", previous_response_id=second["id"])
    assert served.engine.branches[-1].prompt.text.split("\n")[:5] == [
        "user: Hi", "assistant: one", "user: And then?", "assistant: one", "user: And last?"
    ]  # fmt: skip


@pytest.mark.parametrize(("item", "number"), [({"type": "reasoning"}, 1500), ({"type": "reasoning", "x": "y" * 9000}, 10)])
async def test_a_conversation_cannot_grow_without_end(serve, item: dict[str, Any], number: int) -> None:
    """Neither in items nor in bytes. What was kept stays, and a new conversation may begin."""
    said = [*[item] * number, {"role": "user", "content": "Hi"}]
    async with serve(max_body_bytes=100_000) as served:
        previous = await create(served, said)
        body = {"model": "scripted", "input": said}
        replies = []
        while len(replies) < 5 and previous:
            replies.append(await served.client.post("/v1/responses", json={**body, "previous_response_id": previous["id"]}))
            previous = replies[-1].json() if replies[-1].status_code == 200 else {}
        error = replies[-1].json()["error"]
        assert (await served.client.post("/v1/responses", json=body)).status_code == 200
    assert replies[-1].status_code == 400
    assert (len(replies), error["param"]) == (2, "previous_response_id")
    assert error["message"].startswith("previous_response_id: a conversation has at most 4096 items and 200000 bytes")


async def test_references_multiply_nothing_without_bound(serve) -> None:
    async with serve("word " * 400, max_body_bytes=20_000) as served:
        made = await create(served)
        items = [{"type": "item_reference", "id": made["output"][0]["id"]}] * 200
        reply = await served.client.post("/v1/responses", json={"model": "scripted", "input": items})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "input")


async def test_log_probabilities_are_no_part_of_a_conversation(serve) -> None:
    async with serve() as served:
        made = await create(served, top_logprobs=5)
        second = await create(served, previous_response_id=made["id"])
        listed = (await served.client.get(f"/v1/responses/{second['id']}/input_items", params={"order": "asc"})).json()["data"]
    assert made["output"][0]["content"][0]["logprobs"]
    assert "logprobs" not in listed[1]["content"][0]


async def test_a_response_is_read_and_deleted(serve) -> None:
    async with serve(["one"]) as served:
        made = await create(served)
        url = f"/v1/responses/{made['id']}"
        read = (await served.client.get(url)).json()
        items = ResponseItemList.model_validate((await served.client.get(f"{url}/input_items")).json())
        again = await served.client.get(url, params={"stream": True})
        cancelled = await served.client.post(f"{url}/cancel")
        deleted = (await served.client.delete(url)).json()
        gone = [(await served.client.request(how, url)).status_code for how in ("GET", "DELETE")]
        unread = (await served.client.get(f"{url}/input_items")).json()
    assert read == made
    assert items.data[0].content[0].text == "Hi"  # type: ignore[union-attr]
    assert (again.status_code, cancelled.status_code) == (400, 400)
    assert deleted == {"id": made["id"], "object": "response", "deleted": True}
    assert gone == [404, 404]
    assert unread["error"]["code"] == "response_not_found"


async def test_items_are_listed_in_pages(serve) -> None:
    content = [{"role": "user", "content": str(number), "id": f"msg_{number}"} for number in range(5)]
    async with serve(["one"]) as served:
        url = f"/v1/responses/{(await create(served, content))['id']}/input_items"
        newest = (await served.client.get(url, params={"limit": 2})).json()
        older = (await served.client.get(url, params={"limit": 4, "after": newest["last_id"]})).json()
        oldest = (await served.client.get(url, params={"limit": 1, "order": "asc"})).json()
    assert [item["id"] for item in newest["data"]] == ["msg_4", "msg_3"]
    assert ([item["id"] for item in older["data"]], older["has_more"]) == (["msg_2", "msg_1", "msg_0"], False)
    assert (oldest["first_id"], oldest["has_more"]) == ("msg_0", True)


async def test_a_stored_item_is_referred_to(serve) -> None:
    async with serve(["one"]) as served:
        made = await create(served)
        reference = {"type": "item_reference", "id": made["output"][0]["id"]}
        await create(served, [{"role": "user", "content": "Hi"}, reference, {"role": "user", "content": "And?"}])
    assert "assistant: one" in served.engine.branches[-1].prompt.text


async def test_nothing_is_kept_where_the_caller_says_so(serve) -> None:
    async with serve(["one"]) as served:
        made = await create(served, store=False)
        read = await served.client.get(f"/v1/responses/{made['id']}")
        unknown = await served.client.post(
            "/v1/responses", json={"model": "scripted", "input": "Hi", "previous_response_id": made["id"]}
        )
    assert read.status_code == 404
    assert unknown.json()["error"]["code"] == "previous_response_not_found"


async def test_a_response_belongs_to_its_key(serve) -> None:
    """Another key cannot read, list, cancel, delete, continue or refer to it."""
    async with serve(["one"], api_keys="first,second") as served:
        served.client.headers["Authorization"] = "Bearer first"
        made = await create(served)
        served.client.headers["Authorization"] = "Bearer second"
        url = f"/v1/responses/{made['id']}"
        calls = [("GET", url), ("GET", f"{url}/input_items"), ("POST", f"{url}/cancel"), ("DELETE", url)]
        statuses = [(await served.client.request(how, path)).status_code for how, path in calls]
        body = {"model": "scripted", "input": "Hi", "previous_response_id": made["id"]}
        refused = await served.client.post("/v1/responses", json=body)
        reference = {"type": "item_reference", "id": made["output"][0]["id"]}
        referred = await served.client.post("/v1/responses", json={"model": "scripted", "input": [reference]})
        served.client.headers["Authorization"] = "Bearer first"
        assert (await served.client.get(url)).status_code == 200
    assert statuses == [404] * 4
    assert (refused.status_code, referred.status_code) == (400, 400)


async def test_a_file_survives_a_restart(serve, tmp_path: Path) -> None:
    """With the same key, whose id in the file does not change; nobody else may read the file."""
    path = tmp_path / "kept" / "responses.sqlite"
    settings = {"responses_path": path, "api_keys": "first"}
    async with serve(["one"], **settings) as served:
        served.client.headers["Authorization"] = "Bearer first"
        made = await create(served)
    async with serve(["two"], **settings) as served:
        served.client.headers["Authorization"] = "Bearer first"
        assert (await served.client.get(f"/v1/responses/{made['id']}")).json() == made
        await create(served, "And?", previous_response_id=made["id"])
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [None, b"no database at all, but long enough to look at"])
async def test_a_file_that_cannot_be_used_stops_nothing(serve, tmp_path: Path, content: bytes | None) -> None:
    blocker = tmp_path / "blocker"
    blocker.write_bytes(content or b"")
    path = blocker / "responses.sqlite" if content is None else blocker
    async with serve(["one"], responses_path=path) as served:
        made = await create(served)
        assert (await served.client.get(f"/v1/responses/{made['id']}")).status_code == 200


def stored(name: str, status: str = "completed", size: int = 0, created: float = 4e9) -> Stored:
    return Stored({"id": name, "status": status, "created_at": created, "output": []}, [{"content": "x" * size}])


async def test_the_oldest_of_the_largest_key_is_dropped_first(kept) -> None:
    async with kept(Bounds(max_responses=100, max_bytes=5000, max_days=30)) as store:
        await store.save("small", stored("s", size=100))
        for number in range(10):
            await store.save("large", stored(f"l{number}", size=1000, created=4e9 + number))
        kept = [number for number in range(10) if await store.find("large", f"l{number}")]
        assert await store.find("small", "s") is not None
        assert kept == [number for number in range(10) if number >= 10 - len(kept)]
        assert 0 < len(kept) < 5


async def test_many_small_responses_push_out_no_large_one_of_another_key(kept) -> None:
    async with kept(Bounds(max_responses=5, max_bytes=10**6, max_days=30)) as store:
        await store.save("one", stored("large", size=100_000, created=4e9))
        for number in range(20):
            await store.save("many", stored(f"m{number}", created=4e9 + number))
        assert await store.find("one", "large") is not None
        assert [number for number in range(20) if await store.find("many", f"m{number}")] == [16, 17, 18, 19]


async def test_number_and_age_are_bounded(kept) -> None:
    async with kept(Bounds(max_responses=2, max_bytes=10**6, max_days=30)) as store:
        await store.save("a", stored("ancient", created=1.0))
        for number in range(3):
            await store.save("a", stored(f"r{number}", created=4e9 + number))
        found = [name for name in ("ancient", "r0", "r1", "r2") if await store.find("a", name)]
        assert found == ["r1", "r2"]


async def test_items_are_found_by_their_ids_for_their_owner_alone(kept) -> None:
    """Until their response is deleted, or replaced by one without them."""
    items = [{"id": f"msg_{number}", "type": "message"} for number in range(3)]
    async with kept(Bounds(10, 10**6, 30)) as store:
        for number, item in enumerate(items):
            response = {**stored(f"r{number}").response, "output": [item]}
            await store.save("a", Stored(response, [], b"event"))
        assert await store.find_items("a", ["msg_0", "msg_2", "msg_9"]) == {"msg_0": items[0], "msg_2": items[2]}
        assert await store.find_items("b", ["msg_0"]) == {}
        assert [await store.delete("b", "r0"), await store.delete("a", "r0"), await store.delete("a", "r0")] == [
            False,
            True,
            False,
        ]
        await store.save("a", stored("r1"))
        assert set(await store.find_items("a", ["msg_0", "msg_1", "msg_2"])) == {"msg_2"}
        assert (await store.find("a", "r2")).events == b"event"


async def test_what_ran_at_a_restart_has_failed(tmp_path: Path) -> None:
    bounds = Bounds(10, 10**6, 30)
    store = SqliteStore(tmp_path / "responses", bounds)
    await store.save("a", stored("r", "in_progress"))
    await store.close()
    store = SqliteStore(tmp_path / "responses", bounds)
    found = await store.find("a", "r")
    assert found is not None
    assert (found.response["status"], found.response["error"]["code"]) == ("failed", "server_error")
    await store.close()


async def test_what_is_kept_is_what_was_streamed(serve) -> None:
    """The response is kept before its last event is sent, so a client may continue it at once."""
    async with serve(["one"]) as served:
        reply = await served.client.post("/v1/responses", json={"model": "scripted", "input": "Hi", "stream": True})
        last = Response.model_validate_json(reply.text.rpartition("data: ")[2].strip()[:-1].partition('"response":')[2])
        assert (await served.client.get(f"/v1/responses/{last.id}")).json()["status"] == "completed"
