"""What clients and proxies do differently is served: HEAD, slashes, compressed bodies, missing content types, prefixes, other origins."""

import gzip
import json
import zlib

import pytest
from pydantic import ValidationError

from app.settings import Settings

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
OK = {"model": "scripted", "messages": [{"role": "user", "content": "What is 1 + 1?"}]}
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    "path", ["/health", "/ready", "/ping", "/version", "/v1/models", "/v1/models/scripted", "/openapi.json"]
)
async def test_head_is_answered_as_get_without_the_body(serve, path: str) -> None:
    async with serve() as served:
        head, get = await served.client.head(path), await served.client.get(path)
    assert head.status_code == get.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == get.headers["content-length"]


async def test_head_of_a_route_without_get_is_refused(serve) -> None:
    async with serve() as served:
        assert (await served.client.head(CHAT)).status_code == 405


@pytest.mark.parametrize("path", ["/v1/models/", "/health/", "/v1/models//"])
async def test_a_slash_at_the_end_changes_nothing(serve, path: str) -> None:
    """There is no redirect, in which clients lose the body or the key of a POST."""
    async with serve() as served:
        assert (await served.client.get(path)).json() == (await served.client.get(path.rstrip("/"))).json()
        assert (await served.client.post(f"{CHAT}/", json=OK)).status_code == 200


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("identity", bytes),
        ("GZIP", gzip.compress),
    ],
)
async def test_a_compressed_body_is_served(serve, encoding: str, pack) -> None:
    body = pack(json.dumps({**OK, "user": "x" * 200_000}).encode())
    async with serve() as served:
        response = await served.client.post(CHAT, content=body, headers={**JSON, "content-encoding": encoding})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("br", b"{}", 415),
        ("gzip, gzip", gzip.compress(gzip.compress(b"{}")), 415),
        ("gzip", b"{}", 400),
        ("gzip", gzip.compress(json.dumps(OK).encode())[:-9], 400),
        ("gzip", b"", 400),
        ("gzip", gzip.compress(b" " * 50_000_000), 413),
        ("deflate", zlib.compress(b"[" * 50_000_000), 413),
    ],
    ids=["unknown", "twice", "not gzip", "cut", "empty", "bomb", "other bomb"],
)
async def test_a_compressed_body_that_cannot_be_served_is_refused(serve, encoding: str, body: bytes, status: int) -> None:
    """The limit holds for the decompressed body; what is larger is never unpacked."""
    async with serve() as served:
        response = await served.client.post(CHAT, content=body, headers={**JSON, "content-encoding": encoding})
        after = await served.client.post(CHAT, json=OK)
    assert response.status_code == status, response.text
    assert response.json()["error"]["message"]
    assert after.status_code == 200


async def test_a_body_without_a_content_type_is_taken_as_json(serve) -> None:
    """A page in a browser must name it: without it, a browser sends the body of a foreign page unasked."""
    async with serve() as served:
        program = await served.client.post(CHAT, content=json.dumps(OK))
        page = await served.client.post(CHAT, content=json.dumps(OK), headers={"origin": "https://evil.example"})
        form = await served.client.post(
            CHAT, content=json.dumps(OK), headers={"content-type": "application/x-www-form-urlencoded"}
        )
    assert program.status_code == 200, program.text
    assert page.status_code == form.status_code == 415
    assert "Content-Type: application/json" in form.json()["error"]["message"]


@pytest.mark.parametrize("prefix", ["", "/ponder"])
async def test_behind_a_proxy_with_a_prefix(serve, prefix: str) -> None:
    """The proxy may pass the prefix on, or take it off. Links of the documents have it."""
    async with serve(root_path="/ponder") as served:
        models = await served.client.get(f"{prefix}/v1/models")
        document = await served.client.get(f"{prefix}/openapi.json")
        docs = await served.client.get(f"{prefix}/docs")
        page = await served.client.get(f"{prefix}/playground")
        file = await served.client.get(f"{prefix}/playground/main.js")
        chat = await served.client.post(f"{prefix}{CHAT}", json=OK)
    assert {one.status_code for one in (models, document, docs, page, file, chat)} == {200}
    assert document.json()["servers"] == [{"url": "/ponder"}]
    assert "/ponder/openapi.json" in docs.text
    assert 'src="playground/main.js"' in page.text


async def test_the_playground_with_a_slash_leads_to_the_page(serve) -> None:
    """Its links are relative, so that they hold under any prefix."""
    async with serve() as served:
        reply = await served.client.get("/playground/")
    assert (reply.status_code, reply.headers["location"]) == (307, "../playground")


FRIEND = "https://chat.example"


async def test_pages_of_other_origins_are_refused_unless_the_operator_names_them(serve) -> None:
    preflight = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,x-ponder-strategy"}
    async with serve() as served:
        closed = await served.client.options(CHAT, headers={"origin": FRIEND, **preflight})
        reply = await served.client.post(CHAT, json=OK, headers={"origin": FRIEND})
    assert closed.status_code == 405
    assert "access-control-allow-origin" not in reply.headers
    async with serve(cors_origins=FRIEND) as served:
        asked = await served.client.options(CHAT, headers={"origin": FRIEND, **preflight})
        stranger = await served.client.options(CHAT, headers={"origin": "https://evil.example", **preflight})
        reply = await served.client.post(CHAT, json=OK, headers={"origin": FRIEND})
        refused = await served.client.post(CHAT, json={}, headers={"origin": FRIEND})
        foreign = await served.client.post(CHAT, json=OK, headers={"origin": "https://evil.example"})
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == FRIEND
    assert "x-ponder-strategy" in asked.headers["access-control-allow-headers"]
    assert stranger.status_code == 400
    assert "access-control-allow-origin" not in stranger.headers
    assert reply.headers["access-control-allow-origin"] == refused.headers["access-control-allow-origin"] == FRIEND
    assert reply.headers["access-control-expose-headers"] == "*"
    assert "access-control-allow-credentials" not in reply.headers
    assert "access-control-allow-origin" not in foreign.headers


async def test_a_named_origin_weakens_no_other_guarantee(serve) -> None:
    """Keys are still asked for, foreign names of this machine are refused, and a page may not change a server without keys."""
    async with serve(cors_origins=FRIEND, api_keys="alice") as served:
        assert (await served.client.post(CHAT, json=OK, headers={"origin": FRIEND})).status_code == 401
    async with serve(cors_origins=FRIEND) as served:
        rebound = {"origin": FRIEND, "host": "evil.example", "access-control-request-method": "POST"}
        assert (await served.client.options(CHAT, headers=rebound)).status_code == 403
        page = {"origin": FRIEND, "sec-fetch-site": "cross-site"}
        assert (await served.client.post("/v1/unload_lora_adapter", json={"lora_name": "x"}, headers=page)).status_code == 403


@pytest.mark.parametrize("origins", ["*", "chat.example", "https://chat.example/", "null", "https://Chat.example", "ftp://x"])
def test_a_wrong_origin_stops_the_start(origins: str) -> None:
    """Without API keys `*` would open the server to every page that a browser on this machine shows."""
    with pytest.raises(ValidationError, match="cors_origins"):
        Settings(cors_origins=origins)
    assert Settings(cors_origins="*", api_keys="k").cors_origins == ("*",)


@pytest.mark.parametrize("path", ["ponder", "/ponder/", "/a b", "//"])
def test_a_wrong_root_path_stops_the_start(path: str) -> None:
    with pytest.raises(ValidationError, match="root_path"):
        Settings(root_path=path)
