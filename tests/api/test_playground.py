"""The playground over HTTP: only files of the package are served, with strict headers, and the options describe all strategies."""

import hashlib
import json
from pathlib import Path

import pytest

from app.api.playground import FOLDER, MEDIA_TYPES, packaged
from strategies.registry import STRATEGIES

pytestmark = pytest.mark.anyio

VENDORED = (FOLDER / "vendor", Path(__file__).parents[1] / "playground" / "vendor")


async def test_the_page_needs_no_key_and_may_do_little(serve) -> None:
    """The page holds no data. Its headers forbid foreign files, inline scripts and frames."""
    async with serve(api_keys="secret", admin_keys="other") as served:
        page = await served.client.get("/playground")
        home = await served.client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert (home.status_code, home.headers["location"]) == (307, "playground")
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self' data:", "connect-src": "'self'",
        "frame-ancestors": "'none'", "base-uri": "'none'", "form-action": "'none'", "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }  # fmt: skip
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "<style" not in page.text
    assert "style=" not in page.text
    assert page.text.count("<script") == page.text.count('<script type="module" src=') == 1


async def test_every_file_is_served_with_its_type_and_asked_for_once(serve) -> None:
    """A browser that sends the ETag gets a 304 without a body."""
    async with serve() as served:
        for path, file in packaged().items():
            reply = await served.client.get(f"/playground/{path}")
            assert (reply.status_code, reply.content) == (200, file.content)
            assert reply.headers["content-type"] == MEDIA_TYPES[Path(path).suffix]
            assert reply.headers["content-security-policy"]
            again = await served.client.get(
                f"/playground/{path}", headers={"If-None-Match": f'W/"other", {reply.headers["etag"]}'}
            )
            assert (again.status_code, again.content) == (304, b"")
            head = await served.client.head(f"/playground/{path}")
            assert head.headers["content-length"] == str(len(file.content))


@pytest.mark.parametrize(
    "path",
    [
        "nothing.js", "../main.py", "..%2f..%2fpyproject.toml", "%2e%2e/%2e%2e/README.md", "/etc/passwd", "vendor", "vendor/",
        "screenshots/tree.png", "main.js%00", "..\\main.py", "index.html/", "MAIN.JS",
    ],
)  # fmt: skip
async def test_nothing_else_is_served(serve, path: str) -> None:
    """No path reaches a file outside the page's own."""
    async with serve() as served:
        reply = await served.client.get(f"/playground/{path}")
    assert reply.status_code == 404
    assert reply.json()["error"]["type"] == "invalid_request_error"


async def test_it_can_be_switched_off(serve) -> None:
    """The setting removes the page and its options."""
    async with serve(playground=False) as served:
        for path in ("/", "/playground", "/playground/main.js", "/playground/options"):
            assert (await served.client.get(path)).status_code == 404


async def test_the_options_describe_every_strategy(serve) -> None:
    """Each parameter has a default and a schema. The page itself is not in the OpenAPI document."""
    async with serve() as served:
        options = (await served.client.get("/playground/options")).json()
        paths = (await served.client.get("/openapi.json")).json()["paths"]
    assert [one["name"] for one in options["strategies"]] == ["auto", *STRATEGIES.names()]
    told = {one["name"]: one["parameters"] for one in options["strategies"]}
    for strategy in STRATEGIES:
        assert [(one["name"], one["description"]) for one in told[strategy.name]] == [
            (name, field.description) for name, field in strategy.Params.model_fields.items()
        ]
    assert next(one for one in told["beam_search"] if one["name"] == "n") == {
        "name": "n", "description": "beams", "default": 8, "schema": {"type": "integer", "minimum": 1, "maximum": 256},
    }  # fmt: skip
    assert "$ref" not in json.dumps(options)
    assert options["efforts"] == ["low", "medium", "high"]
    assert {path for path in paths if "playground" in path or path == "/"} == {"/playground/options"}


async def test_a_stream_with_nodes_begins_with_its_plan(serve) -> None:
    """The plan and the reason come before anything is generated. A client that did not ask for nodes gets neither."""
    async with serve() as served:
        chunks = {}
        for shows in (True, False):
            text = (await served.chat(stream=True, ponder={"strategy": "self_consistency", "n": 3, "show_nodes": shows})).text
            chunks[shows] = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n")[:-2]]
    opening, plan, *rest = chunks[True]
    last = rest[-1]["ponder"]
    assert opening["choices"][0]["delta"]["role"] == "assistant"
    assert plan["choices"][0]["delta"] == {}
    assert plan["ponder"] == {key: last[key] for key in ("strategy", "plan", "difficulty")}
    assert sum("ponder" in chunk for chunk in chunks[False]) == 1


@pytest.mark.parametrize("folder", VENDORED, ids=["shipped", "of the tests"])
def test_what_is_vendored_is_what_the_manifest_says(folder: Path) -> None:
    """The manifest lists each package with version and licence and each file with its hash, and there is no other file."""
    manifest = json.loads((folder / "manifest.json").read_text())
    hashes = {path: digest for package in manifest for path, digest in package["files"].items()}
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {*hashes, "manifest.json"}
    for path, digest in hashes.items():
        assert hashlib.sha256((folder / path).read_bytes()).hexdigest() == digest
    for package in manifest:
        assert package["version"][0].isdigit()
        assert package["licence"] in {"ISC", "MIT", "MPL-2.0"}
        assert f"{package['name']}/LICENSE.txt" in package["files"]
