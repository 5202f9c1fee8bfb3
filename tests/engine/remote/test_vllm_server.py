"""A replica of vLLM's own server: what it is sent, and how its faults are told from one another."""

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest
from aiohttp import web

from adapters.errors import AdapterFailed
from adapters.ports import EngineAdapter
from app.engine.remote import connection, vllm_server
from app.engine.remote.vllm_server import VllmServer
from app.engine.replica import (
    ReplicaFailed,
    ReplicaLoad,
    ReplicaUnfit,
    RequestFailed,
    RequestRefused,
    TokenRequest,
    UnknownAdapter,
)

pytestmark = pytest.mark.anyio

ASKED = TokenRequest(id="r-0", token_ids=(1, 2, 3), sampling={"max_tokens": 2}, priority=5, cache_salt="s")


@pytest.fixture
async def replica(fake):
    """The client of the fake server."""
    server = VllmServer(fake.url, ("m",), "secret")
    yield server
    await server.close()


async def parts_of(replica: VllmServer, request: TokenRequest = ASKED):
    """All parts of a branch."""
    return [part async for part in replica.generate(request)]


async def test_a_branch_is_token_ids_and_sampling_parameters(fake, replica) -> None:
    """With its own id, priority and salt. Cached tokens come with the last part."""
    first, last = await parts_of(replica)
    assert (first.token_ids, first.finish_reason, first.cached_tokens) == ((7,), None, None)
    assert (last.token_ids, last.finish_reason, last.cached_tokens) == ((8,), "length", 2)
    [body] = fake.bodies
    assert body.pop("cache_salt")
    assert body == {
        "model": "m", "token_ids": [1, 2, 3], "sampling_params": {"max_tokens": 2}, "stream": True, "priority": 5,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    assert fake.headers[-1]["X-Request-Id"] == "r-0"
    assert fake.headers[-1]["Authorization"] == "Bearer secret"


async def test_salts_are_sent_in_a_form_that_every_server_takes(fake, replica) -> None:
    """Those of callers may be longer, and have other characters. Equal ones stay equal, and others differ."""
    salts = ("s", "s", "k" * 64 + ":colour:" + "v" * 64, "k" * 64 + ":colour:" + "w" * 64, "a/b@c\\d\0\ud800")
    for salt in salts:
        await parts_of(replica, replace(ASKED, cache_salt=salt))
    sent = [body["cache_salt"] for body in fake.bodies]
    validate = pytest.importorskip("vllm.entrypoints.generate.base.protocol").validate_cache_salt
    for one in sent:
        validate(one)
    assert len(set(sent)) == len(set(salts))


async def test_a_branch_that_is_over_is_not_aborted(fake, replica) -> None:
    """Nothing is sent after its last part."""
    await parts_of(replica)
    await asyncio.sleep(0.05)
    assert fake.aborted == []


async def test_a_reader_that_leaves_at_the_last_part_keeps_the_connection(fake, replica) -> None:
    """The branch is over, so nothing is aborted, and the next branch needs no new connection."""
    for _ in range(3):
        async for part in (parts := replica.generate(ASKED)):
            if part.finish_reason is not None:
                break
        await parts.aclose()
    await asyncio.sleep(0.05)
    assert fake.aborted == []
    assert len(fake.peers) == 1


@pytest.mark.parametrize("tail", [b"", b"data: {\n\n", b'data: {"error":{"message":"x"}}\n\n', b": ping\n\n" * 3])
async def test_a_branch_is_over_with_its_finish_reason(fake, replica, monkeypatch, tail) -> None:
    """Whatever its stream does then: it stays open, breaks off or is nonsense."""
    monkeypatch.setattr("app.engine.remote.events.END_S", 0.05)
    is_read = asyncio.Event()

    async def stays(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'data: {"choices":[{"token_ids":[7],"finish_reason":"stop"}]}\n\n' + tail)
        await is_read.wait()
        return response

    fake.routes["/inference/v1/generate"] = stays
    async with asyncio.timeout(30):
        [last] = await parts_of(replica)
    is_read.set()
    assert (last.token_ids, last.finish_reason) == ((7,), "stop")


async def test_parts_without_tokens_are_no_news(fake, replica) -> None:
    """Nor are choices that nobody asked for."""
    fake.routes["/inference/v1/generate"] = (
        b'data: {"choices":[{"token_ids":[]}]}\n\ndata: {"choices":[{"token_ids":[7]},{"token_ids":[8]}]}\n\n'
        b'data: {"choices":[{"token_ids":[],"finish_reason":"stop"}]}\n\n'
    )
    assert [part.token_ids for part in await parts_of(replica)] == [(7,), ()]


@pytest.mark.parametrize(("status", "interval"), [(200, 0), (500, 1)])
async def test_answers_fill_no_memory(fake, replica, monkeypatch, status, interval) -> None:
    """A replica that sends and sends is a failure."""
    monkeypatch.setattr(vllm_server, "MAX_BODY_BYTES", 1000)
    monkeypatch.setattr(vllm_server, "MAX_ANSWER_BYTES", 1000)

    async def floods(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b" " * 100_000, status=status)

    fake.routes["/inference/v1/generate"] = floods
    with pytest.raises(ReplicaFailed, match="more than 1000 bytes"):
        await parts_of(replica, replace(ASKED, interval=interval))


async def test_a_replica_that_has_left_is_a_failure(replica) -> None:
    """A branch may still have been about to go there."""
    await replica.close()
    for ask in (parts_of(replica), replica.load(), replica.halt(["r"])):
        with pytest.raises(ReplicaFailed, match="it has left"):
            await ask


async def test_a_reader_that_leaves_aborts_the_branch(fake, replica) -> None:
    """By the id that vLLM's engine knows it by."""
    parts = replica.generate(ASKED)
    await anext(parts)
    await parts.aclose()
    await asyncio.sleep(0.1)
    assert fake.aborted == ["generate-tokens-r-0"]


async def test_the_card_tells_what_it_serves(replica) -> None:
    """The model by its name or its root, the slots for adapters by the metrics."""
    card = await replica.describe()
    assert (card.model, card.version, card.max_model_len, card.adapter_slots, card.losses) == ("m", "0.32.0", 2048, 8, ())


async def test_a_replica_that_tells_no_cached_tokens_lacks_them(fake, replica) -> None:
    """Its FLOPs are then an upper bound, which operators must know."""
    fake.routes["/inference/v1/generate"] = (
        b'data: {"choices":[{"token_ids":[7],"finish_reason":"length"}]}\n\ndata: {"choices":[]}\n\ndata: [DONE]\n\n'
    )
    assert (await replica.describe()).losses == ("cached tokens are not told (--enable-prompt-tokens-details)",)


@pytest.mark.parametrize(
    ("path", "answer", "why"),
    [
        ("/v1/models", 401, "refuses the key"),
        ("/v1/models", {"data": [{"id": "other", "parent": None}]}, "serves other, and not m"),
        ("/v1/models", {"data": [{"id": "m", "parent": "base"}]}, "serves nothing, and not m"),
        ("/inference/v1/generate", 403, "/v1/completions: "),
        ("/inference/v1/generate", 404, "/v1/completions: "),
        ("/inference/v1/generate", None, "/v1/completions: "),
        ("/inference/v1/generate", 400, "/v1/completions: "),
    ],
)
async def test_replicas_of_another_fleet_are_unfit(fake, replica, path, answer, why) -> None:
    """They say so when they join, and are not tried again every moment."""
    fake.routes[path] = answer
    with pytest.raises(ReplicaUnfit, match=why):
        await replica.describe()


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/v1/models", b'{"data":[{"id":"\xff"}]}'), ("/v1/models", b"[" * 100_000), ("/version", b'{"version":' + b"[" * 100_000),
        ("/inference/v1/generate", b'data: {"error":{"message":"Internal server error"}}\n\n'),
        ("/health", 503), ("/v1/models", b"<html>"), ("/v1/models", b"[]"), ("/v1/models", b'{"data":[{}]}'), ("/version", b"\xff"),
    ],
)  # fmt: skip
async def test_nonsense_at_the_start_is_a_failure(fake, replica, path, answer) -> None:
    """It may be another one's answer, or a server that starts: the replica is tried again."""
    fake.routes[path] = answer
    with pytest.raises(ReplicaFailed) as failure:
        await replica.describe()
    assert not isinstance(failure.value, ReplicaUnfit)


@pytest.mark.parametrize(
    "stream",
    [
        b"", b"data: [DONE]\n\n", b"data: {\n\n", b'data: {"choices": 1}\n\n', b'data: {"choices":[{"token_ids":["a"]}]}\n\n',
        b'data: {"choices":[{"token_ids":[1]}]}\n\n', b'data: {"choices":[{"token_ids":[1]}]}\n\ndata: [DONE]\n\n',
        b'data: {"choices":[{"finish_reason":"\xff"}]}\n\n', b'data: {"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n\n",
        b'data: {"choices":[{"logprobs":{"content":[{"token_id":1,"logprob":1e999}]}}]}\n\n',
        b'data: {"choices":[{"logprobs":{"content":[{"token_id":1,"logprob":NaN}]}}]}\n\n',
        b'data: {"choices":[],"prompt_logprobs":[{"1":{"logprob":"x"}}]}\n\n',
        b'data: {"error":{"message":"EngineCore encountered an issue"}}\n\n', b"data: []\n\n", b"event: x\n\n" * 100,
    ],
)  # fmt: skip
async def test_half_a_stream_or_nonsense_is_a_failure(fake, replica, stream) -> None:
    """So the branch goes on elsewhere; what arrived before has been passed on."""
    fake.routes["/inference/v1/generate"] = stream
    with pytest.raises(ReplicaFailed):
        await parts_of(replica)


async def test_a_stream_that_breaks_off_is_a_failure(fake, replica) -> None:
    """As of a process that was killed."""

    async def breaks(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'data: {"choices":[{"token_ids":[1]}]}\n\n')
        request.transport.abort()
        return response

    fake.routes["/inference/v1/generate"] = breaks
    parts = replica.generate(ASKED)
    assert (await anext(parts)).token_ids == (1,)
    with pytest.raises(ReplicaFailed):
        await anext(parts)


async def test_an_event_without_an_end_is_a_failure(fake, replica, monkeypatch) -> None:
    """A replica that sends and sends fills no memory."""
    monkeypatch.setattr("app.engine.remote.events.MAX_EVENT_BYTES", 1000)
    fake.routes["/inference/v1/generate"] = b"data: " + b" " * 100_000
    with pytest.raises(ReplicaFailed, match="without an end"):
        await parts_of(replica)


async def test_a_request_that_fails_alone_is_told_apart(fake, replica) -> None:
    """VLLM says so where a grammar allows no token, and goes on."""
    fake.routes["/inference/v1/generate"] = (
        b'data: {"error":{"message":"Internal server error","code":500}}\n\ndata: [DONE]\n\n'
    )
    with pytest.raises(RequestFailed):
        await parts_of(replica)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, RequestRefused), (422, RequestRefused), (401, ReplicaUnfit), (500, ReplicaFailed), (502, ReplicaFailed)],
)
async def test_statuses(fake, replica, status, kind) -> None:
    """Only what is wrong with the request is the caller's."""
    fake.routes["/inference/v1/generate"] = status
    with pytest.raises(kind):
        await parts_of(replica)


async def test_an_adapter_that_is_missing_is_told_apart(fake, replica) -> None:
    """A replica that was started anew has lost its adapters."""
    fake.routes["/inference/v1/generate"] = 404
    with pytest.raises(UnknownAdapter):
        await parts_of(
            replica, TokenRequest(id="r", token_ids=(1,), sampling={}, adapter=EngineAdapter("a#1", 1, "/a", "a:sha"))
        )


COMPLETION = (
    b'data: {"choices":[{"text":"a","logprobs":{"tokens":["token_id:7"],"token_logprobs":[-0.5],'
    b'"top_logprobs":[{"token_id:7":-0.5,"token_id:9":-1.5}]}}]}\n\n'
    b'data: {"choices":[{"text":"b","token_ids":[8],"finish_reason":"stop","stop_reason":"b"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":1}}}\n\ndata: [DONE]\n\n'
)


@pytest.fixture
def older(fake):
    """A server that has only OpenAI's routes, and one that a router in front of it has not."""
    for path in ("/inference/v1/generate", "/inference/v1/abort_requests", "/v1/load_lora_adapter", "/tokenize"):
        fake.routes[path] = None
    fake.routes["/v1/completions"] = COMPLETION
    return fake


async def test_a_server_without_the_route_is_asked_for_completions(older, replica) -> None:
    """By token ids, and for token ids. Its card says what is lost."""
    card = await replica.describe()
    assert "no route for tokens" in card.losses[0]
    assert card.adapter_slots == 0
    assert await replica.tokenize("x") is None
    first, last = await parts_of(replica)
    assert (first.token_ids, first.positions) == ((7,), (((7, -0.5), (9, -1.5)),))
    assert (last.token_ids, last.finish_reason, last.stop_reason, last.cached_tokens) == ((8,), "stop", "b", 1)


async def test_a_server_that_tells_no_token_ids_is_unfit(older, replica) -> None:
    """Texts cannot be continued, nor counted."""
    older.routes["/v1/completions"] = b'data: {"choices":[{"text":"a","finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    with pytest.raises(ReplicaUnfit, match="no ids of tokens"):
        await replica.describe()


@pytest.mark.parametrize(
    "request_", [replace(ASKED, features={"mm_hashes": {}}), replace(ASKED, gate={"reasoning_ended": False})]
)
async def test_what_completions_cannot_do_is_refused(older, replica, request_) -> None:
    """And not done otherwise than asked."""
    await replica.describe()
    with pytest.raises(RequestRefused):
        await parts_of(replica, request_)


async def test_without_a_route_for_aborts_a_halted_branch_is_left(older, replica) -> None:
    """What had arrived of it counts."""
    await replica.describe()

    async def drips(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b'data: {"choices":[{"token_ids":[1]}]}\n\n')
            await asyncio.sleep(0.005)
        return response

    older.routes["/v1/completions"] = drips
    parts = replica.generate(ASKED)
    assert (await anext(parts)).token_ids == (1,)
    await replica.halt(["r-0", "unknown"])
    *_, last = [part async for part in parts]
    assert last.finish_reason == "abort"


async def test_a_server_that_is_not_there_is_a_failure() -> None:
    """Port 9 is closed."""
    replica = VllmServer("http://127.0.0.1:9", ("m",))
    for ask in (replica.describe(), parts_of(replica), replica.load(), replica.halt(["r"]), replica.tokenize("x")):
        with pytest.raises(ReplicaFailed):
            await ask
    await replica.close()


async def test_slow_answers_are_failures(fake, replica, monkeypatch) -> None:
    """What needs no generation has a time limit."""
    monkeypatch.setattr(connection, "ANSWER_S", 0.05)

    async def sleeps(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(5)
        return web.Response()

    fake.routes["/health"] = sleeps
    with pytest.raises(ReplicaFailed, match="not answered within"):
        await replica.load()


async def test_what_it_counts_is_read_from_its_metrics(fake, replica) -> None:
    """Data-parallel ranks are added; a page without counts is empty."""
    assert await replica.load() == ReplicaLoad(3, 1, 1234)
    fake.routes["/metrics"] = 'vllm:num_requests_running{engine="0"} 1.0\nvllm:num_requests_running{engine="1"} 2.0\n'
    assert await replica.load() == ReplicaLoad(3, 0, 0)


@pytest.mark.parametrize("value", ["nan", "Inf", "1e999", "1.2.3", "-1", "9" * 5000, ""])
async def test_counts_that_are_none_end_nothing(fake, replica, value) -> None:
    """They count for nothing, or as a failure."""
    fake.routes["/metrics"] = f'vllm:num_requests_running{{engine="0"}} {value}\n'
    with suppress(ReplicaFailed):
        assert await replica.load() == ReplicaLoad(0, 0, 0)


async def test_an_adapter_is_known_by_its_content(fake, replica) -> None:
    """So a second front end loads the same one, which does nothing."""
    for name in ("a#1", "a#2"):
        await replica.load_adapter(EngineAdapter(name, 1, "/a", "a:sha"))
    assert fake.adapters == {"a:sha": "/a"}
    with pytest.raises(AdapterFailed, match="No adapter found"):
        await replica.load_adapter(EngineAdapter("b#3", 3, "/gone", "b:sha"))


async def test_adapters_are_unloaded_only_where_that_frees_their_slots(fake, replica) -> None:
    """Which a repaired vLLM says on its page of metrics, with the number of branches that it runs."""
    unloaded = []

    async def unload(request: web.Request) -> web.StreamResponse:
        unloaded.append((await request.json())["lora_name"])
        return web.Response()

    fake.routes["/v1/unload_lora_adapter"] = unload
    adapter = EngineAdapter("a#1", 1, "/a", "a:sha")
    card = await replica.describe()
    assert (card.frees_slots, card.max_branches) == (False, None)
    await replica.unload_adapter(adapter)
    assert not unloaded
    fake.routes["/metrics"] += 'ponder_replica_info{frees_slots="1",max_branches="32"} 1.0\n'
    card = await replica.describe()
    assert (card.frees_slots, card.max_branches, card.reads_store) == (True, 32, False)
    fake.routes["/metrics"] = fake.routes["/metrics"].replace('max_branches="32"}', 'max_branches="32",reads_store="1"}')
    assert (await replica.describe()).reads_store
    await replica.unload_adapter(adapter)
    assert unloaded == ["a:sha"]


async def test_redirects_are_not_followed(fake, replica) -> None:
    """They could take prompts and the key to another server."""

    async def moves(_: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect("http://127.0.0.1:9/")

    fake.routes["/inference/v1/generate"] = moves
    with pytest.raises(ReplicaFailed, match="status 307"):
        await parts_of(replica)
