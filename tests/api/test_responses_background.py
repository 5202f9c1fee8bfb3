"""Responses in the background: polling, streams that go on, cancelling, bounds, and the end of the server."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

pytestmark = pytest.mark.anyio

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
SEARCH = {"strategy": "beam_search", "n": 4, "expand": 2, "separator": ";"}


@pytest.fixture(params=["sqlite", "valkey"])
def serve(serve, request: pytest.FixtureRequest):
    """Each test runs over the store of one server, and over that of several front ends."""
    if request.param == "sqlite":
        return serve
    url = request.getfixturevalue("valkey").url
    return lambda *script, **settings: serve(*script, shared_state_url=url, **settings)


LONG = ["a b c d e f g h i j k l m n o p q r s t u v w x y z"]


def story(text: str, serial: int) -> str:
    """Two steps, then an answer."""
    said = text.rpartition("assistant:")[2]
    rest = ["first thing;", " second thing;", f" so {[42, 41, 42][serial % 3]}"]
    return "".join(rest[said.count(";") :])


def events(text: str) -> list[Any]:
    return [EVENT.validate_python(json.loads(line[6:])) for line in text.split("\n") if line.startswith("data: ")]


async def create(served, status: int = 200, **fields: object) -> dict[str, Any]:
    body = {"model": "scripted", "input": "Hi", "background": True, "ponder": {"strategy": "direct"}, **fields}
    reply = await served.client.post("/v1/responses", json=body)
    assert reply.status_code == status, reply.text
    return reply.json() if reply.headers["content-type"] == "application/json" else {"text": reply.text}


async def polled(served, response_id: str, *until: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The response when it has one of the states, and all that was read before it."""
    read = []
    for _ in range(1000):
        read.append((await served.client.get(f"/v1/responses/{response_id}")).json())
        Response.model_validate(read[-1], strict=True)
        if read[-1]["status"] in until:
            return read[-1], read
        await asyncio.sleep(0.01)
    pytest.fail(f"it never was {until}: {read[-1]}")


async def test_a_response_is_polled(serve) -> None:
    async with serve(["one two"], seconds_per_token=0.02) as served:
        made = await create(served)
        ended, read = await polled(served, made["id"], "completed")
        [item] = (await served.client.get(f"/v1/responses/{made['id']}/input_items")).json()["data"]
    assert (made["status"], made["background"], made["output"]) == ("queued", True, [])
    assert "in_progress" in {one["status"] for one in read}
    assert Response.model_validate(ended).output_text == "one two"
    assert item["content"][0]["text"] == "Hi"


async def test_the_best_answer_so_far_is_shown(serve) -> None:
    async with serve(story, seconds_per_token=0.03) as served:
        made = await create(served, ponder=SEARCH)
        _, read = await polled(served, made["id"], "completed")
    texts = [Response.model_validate(one).output_text for one in read if one["status"] == "in_progress"]
    assert any(text.startswith("first thing;") for text in texts)


VOTES = {0: "It is 41.", 1: "It is 42.", 2: "Surely 42.", 3: "a b c d e f g h i j k l m n o p q r s t"}


async def test_the_leading_answer_of_a_vote_is_shown(serve) -> None:
    """Not the newest one."""
    options = {"strategy": "self_consistency", "n": 4, "answer": "math"}
    async with serve(lambda _text, serial: VOTES[serial % 4], seconds_per_token=0.02) as served:
        made = await create(served, ponder=options)
        _, read = await polled(served, made["id"], "completed")
    texts = [Response.model_validate(one).output_text for one in read if one["status"] == "in_progress"]
    assert [text for text in dict.fromkeys(texts) if text][-1] in ("It is 42.", "Surely 42.")


async def test_cancel_frees_every_branch(serve) -> None:
    async with serve(LONG, seconds_per_token=0.05) as served:
        made = await create(served, ponder={"strategy": "self_consistency", "n": 8, "answer": "text"})
        await polled(served, made["id"], "in_progress")
        while not served.engine.running:  # noqa: ASYNC110 - an engine has no event for it
            await asyncio.sleep(0.01)
        cancelled = (await served.client.post(f"/v1/responses/{made['id']}/cancel")).json()
        assert not served.engine.running
        again = (await served.client.post(f"/v1/responses/{made['id']}/cancel")).json()
    assert Response.model_validate(cancelled).status == again["status"] == "cancelled"


async def test_deleting_cancels(serve) -> None:
    async with serve(LONG, seconds_per_token=0.05) as served:
        made = await create(served)
        assert (await served.client.delete(f"/v1/responses/{made['id']}")).status_code == 200
        assert not served.engine.running
        assert (await served.client.get(f"/v1/responses/{made['id']}")).status_code == 404


@pytest.mark.parametrize("when", ["running", "ended"])
async def test_a_stream_goes_on_behind_an_event(serve, when: str) -> None:
    """While the response runs, and after its end."""
    async with serve(["one two three"], seconds_per_token=0.05 if when == "running" else 0) as served:
        made = await create(served)
        if when == "ended":
            await polled(served, made["id"], "completed")
        url = f"/v1/responses/{made['id']}"
        everything = events((await served.client.get(url, params={"stream": True})).text)
        rest = events((await served.client.get(url, params={"stream": True, "starting_after": 2})).text)
    assert [one.sequence_number for one in everything] == list(range(len(everything)))
    assert [one.type for one in everything[:3]] == ["response.created", "response.queued", "response.in_progress"]
    assert everything[-1].type == "response.completed"
    assert [one.sequence_number for one in rest] == list(range(3, len(everything)))


async def test_a_stream_of_the_background_is_written_at_once(serve) -> None:
    async with serve(["one two three"], seconds_per_token=0.01) as served:
        read = events((await create(served, stream=True))["text"])
    assert [one.type for one in read].count("response.output_text.delta") == 3
    assert read[-1].type == "response.completed"


async def test_what_cannot_be_served_is_refused_at_once(serve) -> None:
    async with serve() as served:
        error = (await create(served, 400, ponder={"strategy": "self_consistency", "n": 10**6}))["error"]
    assert error["param"].startswith("ponder")


async def test_a_failure_is_told(serve) -> None:
    async with serve(LONG, seconds_per_token=0.05) as served:
        made = await create(served)
        await polled(served, made["id"], "in_progress")
        served.engine.die()
        ended, _ = await polled(served, made["id"], "failed")
    assert ended["error"]["code"] == "server_error"


async def test_the_responses_of_a_key_are_bounded(serve) -> None:
    async with serve(LONG, seconds_per_token=0.05, max_background_per_key=2) as served:
        await create(served)
        made = await create(served)
        assert (await create(served, 429))["error"]["code"] == "rate_limit_exceeded"
        await served.client.post(f"/v1/responses/{made['id']}/cancel")
        await create(served)


async def test_a_full_server_keeps_it_queued(serve) -> None:
    async with serve(LONG, seconds_per_token=0.02, max_branches=1, max_waiting_branches=1) as served:
        made = [await create(served) for _ in range(3)]
        await polled(served, made[0]["id"], "in_progress")
        last = (await served.client.get(f"/v1/responses/{made[2]['id']}")).json()
    assert last["status"] == "queued"


async def test_the_end_of_the_server_ends_all(serve, tmp_path: Path) -> None:
    """The responses have failed after a restart, and say why."""
    path = tmp_path / "responses.sqlite"
    async with serve(LONG, seconds_per_token=0.05, responses_path=path) as served:
        made = await create(served)
        await polled(served, made["id"], "in_progress")
    assert not served.engine.running
    async with serve(LONG, responses_path=path) as served:
        ended = (await served.client.get(f"/v1/responses/{made['id']}")).json()
    assert ended["status"] == "failed"
    assert "stopped" in ended["error"]["message"]


async def test_another_key_has_no_part_in_it(serve) -> None:
    async with serve(LONG, seconds_per_token=0.05, api_keys="first,second") as served:
        served.client.headers["Authorization"] = "Bearer first"
        url = f"/v1/responses/{(await create(served))['id']}"
        served.client.headers["Authorization"] = "Bearer second"
        calls = [("GET", url), ("GET", f"{url}?stream=true"), ("POST", f"{url}/cancel"), ("DELETE", url)]
        statuses = [(await served.client.request(how, path)).status_code for how, path in calls]
    assert statuses == [404] * 4
