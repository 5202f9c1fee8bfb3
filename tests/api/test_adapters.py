"""Adapters over HTTP, on the scripted engine, whose answers contain the engine's own name of the adapter."""

import asyncio
import io
import json
import re
import shutil
import zipfile
from contextlib import contextmanager
from pathlib import Path

import anyio
import httpx
import pytest
from typer.testing import CliRunner

from adapters import registry as registry_module
from adapters.weights import BaseModel
from app.cli import adapters as adapters_cli
from app.engine.scripted import SMALL
from app.settings import DEFAULT_MODEL
from tests import peft_folder

pytestmark = pytest.mark.anyio

BASE = BaseModel("scripted", SMALL.num_layers, SMALL.linear_modules)
FILES = ("adapter_config.json", "adapter_model.safetensors")
VERIFIER_PROMPT = {"template": "\nIs this answer correct (Yes or No)?", "yes": " Yes", "no": " No"}


@pytest.fixture
def made(tmp_path):
    """`made(seed)`: a peft folder whose content depends on the seed."""
    return lambda seed=0, **fields: peft_folder.write(tmp_path / "import" / f"made-{seed}", BASE, seed=seed, **fields)


async def push(served, name: str, folder, **data):
    there = [*FILES, "ponder.json"] if (folder / "ponder.json").exists() else FILES
    files = [("files", (file, (folder / file).read_bytes())) for file in there]
    return await served.client.post("/v1/adapters", data={"name": name, **data}, files=files)


async def answering_version(served, model: str, content: str = "Hi", **fields) -> str:
    """Return the version that answered; the text, the header and the `ponder` object must agree on it."""
    response = await served.chat(content, model=model, **fields)
    assert response.status_code == 200, response.text
    reply = response.json()
    version = reply["choices"][0]["message"]["content"].split("#")[0]
    assert version == response.headers["x-ponder-adapter"] == reply["ponder"]["adapter"]
    return version


async def test_an_upload_is_served_at_once(serve, made) -> None:
    """Files and a zip of the folder are the same. The same content again makes no new version."""
    folder = made(1)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        for file in folder.iterdir():
            zipped.write(file, f"my-adapter/{file.name}")
    async with serve() as served:
        first = await push(served, "sums", folder)
        zipped = await served.client.post(
            "/v1/adapters", data={"name": "sums"}, files=[("archive", ("a.zip", archive.getvalue()))]
        )
        listed = (await served.client.get("/v1/adapters")).json()["data"]
        shown = (await served.client.get("/v1/adapters/sums")).json()
        version = shown["current"]
        assert await answering_version(served, "sums") == f"sums:{version[:8]}"
        one = (await served.client.get(f"/v1/adapters/sums:{version[:8]}")).json()
    assert (first.status_code, zipped.status_code) == (201, 200)
    assert first.json()["version"] == zipped.json()["version"] == version
    assert listed == [shown]
    assert shown["state"] == "serving"
    assert one["rank"] == 4
    assert one["engine"] == "ready"
    assert one["source"] == "upload:files"


async def test_a_verifier_prompt_is_accepted_in_every_way_and_shown(serve, made, tmp_path) -> None:
    """Files, a zip and a path are alike. It is part of the version, so that the same weights without it are another version."""
    folder = made(1)
    plain = shutil.copytree(folder, tmp_path / "import" / "plain")
    (folder / "ponder.json").write_text(json.dumps({"verifier_prompt": VERIFIER_PROMPT}))
    archive = shutil.make_archive(str(tmp_path / "judge"), "zip", folder)
    async with serve(adapter_import_dir=tmp_path / "import") as served:
        post = served.client.post
        answers = [
            await push(served, "judge", folder),
            await post("/v1/adapters", data={"name": "judge"}, files=[("archive", ("a.zip", Path(archive).read_bytes()))]),
            await post("/v1/adapters", json={"name": "judge", "path": folder.name}),
        ]
        shown = (await served.client.get("/v1/adapters/judge")).json()
        one = (await served.client.get(f"/v1/adapters/judge:{shown['current'][:8]}")).json()
        without = (await push(served, "plain", plain)).json()
        wrong = await post(
            "/v1/adapters",
            data={"name": "judge"},
            files=[("files", ("ponder.json", b'{"verifier_prompt": {"template": "{context}"}}'))]
            + [("files", (file, (folder / file).read_bytes())) for file in FILES],
        )
        held = served.app.state.pools.first.adapters.adapter("judge").current.verifier_prompt
    assert [answer.status_code for answer in answers] == [201, 200, 200]
    assert len(shown["versions"]) == 1
    assert shown["versions"][0]["verifier_prompt"] == one["verifier_prompt"] == held.model_dump() == VERIFIER_PROMPT
    assert shown["versions"][0]["inquiry"] == VERIFIER_PROMPT  # deprecated
    assert without["versions"][0]["verifier_prompt"] is None
    assert without["version"] != shown["current"]
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "ponder.json:verifier_prompt.template")
    assert "{context}" in wrong.json()["error"]["message"]


@pytest.fixture
def ponder(monkeypatch):
    """`await ponder(served, "show", "a")`: what `ponder adapters show a` prints, over the app in this process."""

    async def run(served, *arguments: str) -> str:
        def forward(request: httpx.Request) -> httpx.Response:
            again = served.client.build_request(request.method, request.url.path, content=request.content)
            again.headers.update({key: request.headers[key] for key in ("content-type",) if key in request.headers})
            answer = anyio.from_thread.run(served.client.send, again)
            return httpx.Response(answer.status_code, content=answer.content)

        @contextmanager
        def server(*_ignored: object):
            with httpx.Client(transport=httpx.MockTransport(forward), base_url="http://ponder") as client:
                yield client

        monkeypatch.setattr(adapters_cli, "_server", server)
        result = await anyio.to_thread.run_sync(CliRunner().invoke, adapters_cli.app, arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


async def test_the_command_line_pushes_and_shows_a_verifier(serve, made, ponder) -> None:
    """`ponder.json` is pushed if the folder has one. Its prompt is shown escaped and shortened, and only for adapters that have one."""
    folder, plain = made(1), made(2)
    long = {**VERIFIER_PROMPT, "template": "[bold]\x1b[2J" + "x" * 500}
    async with serve() as served:
        assert "can be activated as a" in await ponder(served, "push", "a", str(plain), "--no-activate")
        assert "judges" not in await ponder(served, "show", "a")
        (folder / "ponder.json").write_text(json.dumps({"verifier_prompt": VERIFIER_PROMPT}))
        assert "is served as a" in await ponder(served, "push", "a", str(folder))
        version = json.loads(await ponder(served, "show", "a", "--json"))["current"]
        shown = await ponder(served, "show", "a")
        (folder / "ponder.json").write_text(json.dumps({"verifier_prompt": long}))
        await ponder(served, "push", "a", str(folder))
        hostile = await ponder(served, "show", "a")
        assert f"is now a:{version[:8]}" in await ponder(served, "activate", "a", version[:8])
        assert json.loads(await ponder(served, "activate", "a", version[:8], "--json"))["version"] == version
        assert await ponder(served, "remove", "a") == "a is deleted\n"
    line = f'{version[:8]} judges: asked "\\nIs this answer correct (Yes or No)?", it says " Yes" or " No"'
    assert line in shown.splitlines()
    assert '"[bold]\\u001b[2Jxxx' in hostile
    assert "\x1b" not in hostile
    assert "x" * 200 not in hostile


async def test_models_tell_adapters_as_vllm_does(serve, made) -> None:
    """`parent` is the base model. Strategies work with adapters too, in the model's name and in the path."""
    async with serve(["42"]) as served:
        await push(served, "sums", made(1))
        listed = {model["id"]: model for model in (await served.client.get("/v1/models")).json()["data"]}
        one = (await served.client.get("/v1/models/sums@best_of_n")).json()
        reply = (await served.chat("What is 17 + 25?", model="sums@best_of_n")).json()
        path = await served.client.post(
            "/v1/best_of_n/chat/completions",
            json={"model": "sums", "messages": [{"role": "user", "content": "What is 1 + 1?"}]},
        )
    assert listed["sums"]["parent"] == one["parent"] == "scripted"
    assert re.fullmatch(r"sums:[0-9a-f]{8}", listed["sums"]["root"])
    assert {"scripted", "scripted@auto", "sums", "sums@auto", "sums@direct"} <= set(listed)
    assert reply["ponder"]["strategy"] == path.json()["ponder"]["strategy"] == "best_of_n"
    assert reply["model"] == "sums"


async def test_a_swap_a_pin_and_a_roll_back(serve, made) -> None:
    """The name stands for the newest version, and a pinned version stays the same."""
    async with serve() as served:
        one = (await push(served, "a", made(1))).json()["version"][:8]
        two = (await push(served, "a", made(2))).json()["version"][:8]
        assert await answering_version(served, "a") == f"a:{two}"
        assert await answering_version(served, f"a:{one}") == f"a:{one}"
        back = await served.client.post("/v1/adapters/a/activate", json={"version": one})
        assert back.json()["current"].startswith(one)
        assert await answering_version(served, "a") == f"a:{one}"
        three = (await push(served, "a", made(3), activate="false")).json()["version"][:8]
        assert await answering_version(served, "a") == f"a:{one}"
        assert await answering_version(served, f"a:{three}@direct") == f"a:{three}"


async def test_versions_do_not_share_cached_prefixes(serve, made) -> None:
    """After a swap, the same long prompt is answered by the new version and not from blocks that the old one computed.

    The scripted engine's cache distinguishes adapters by their salt alone, and answers under the name of the adapter that computed the
    first block. Without a salt of its own, the new version would answer under the old one's name.
    """
    long = "word " * 100
    async with serve() as served:
        one = (await push(served, "a", made(1))).json()["version"][:8]
        assert await answering_version(served, "a", long) == f"a:{one}"
        two = (await push(served, "a", made(2))).json()["version"][:8]
        assert await answering_version(served, "a", long) == f"a:{two}"
        assert await answering_version(served, f"a:{one}", long) == f"a:{one}"
        base = (await served.chat(long)).json()["choices"][0]["message"]["content"]
        assert "#" not in base
        again = (await served.chat(long, model="a")).json()["ponder"]
        assert again["tokens"]["cached"] > 0  # the salt does not cost the cache


async def test_a_search_keeps_one_version_through_a_swap(serve, made) -> None:
    """All branches of a running request, in all its waves, use the version that the request began with."""
    options = {"strategy": "self_consistency", "n": 12, "schedule": "waves", "confidence": 1.0, "answer": "math"}
    async with serve(["it is 1", "it is 2", "it is 3"], seconds_per_token=0.01) as served:
        one = (await push(served, "a", made(1))).json()["version"][:8]
        asked = asyncio.create_task(served.chat(model="a", ponder=options))
        await asyncio.sleep(0.05)
        begun = len(served.engine.branches)
        two = (await push(served, "a", made(2))).json()["version"][:8]
        assert await answering_version(served, "a") == f"a:{two}"
        assert (await asked).json()["ponder"]["adapter"] == f"a:{one}"
        used = {branch.adapter.name.split("#")[0] for branch in served.engine.branches if branch.cache_salt}
        search = [branch for branch in served.engine.branches if branch.adapter and branch.adapter.name.startswith(f"a:{one}")]
        assert 0 < begun < len(search) == 12
        assert used == {f"a:{one}", f"a:{two}"}
        await asyncio.sleep(0.05)
        assert [adapter.name.split("#")[0] for adapter in served.engine.adapters.values()] == [f"a:{two}"]


async def test_an_adapter_verifies_what_another_generates(serve, made) -> None:
    """Generator and verifier are each held at one version. The verifier's tokens and FLOPs are counted as verification."""
    options = {"strategy": "best_of_n", "n": 3, "verifier": {"adapter": "judge"}}
    async with serve() as served:
        writer = (await push(served, "writer", made(1))).json()["version"][:8]
        judge = (await push(served, "judge", made(2))).json()["version"][:8]
        reply = (await served.chat("Tell me.", model="writer", ponder=options)).json()
        roles = {(branch.adapter.name.split("#")[0], bool(branch.options)) for branch in served.engine.branches}
        by_base = await served.chat("Tell me.", ponder=options)
        unknown = await served.chat("Tell me.", ponder={**options, "verifier": {"adapter": "nobody"}})
        foreseen = await served.chat("Tell me.", ponder={**options, "verifier": {"adapter": "nobody"}, "dry_run": True})
        wrong = await served.chat("Tell me.", ponder={**options, "verifier": {"adapter": 3}})
        assert all(one.leases == 0 for one in served.app.state.pools.first.adapters.loaded_versions())
    assert roles == {(f"writer:{writer}", False), (f"judge:{judge}", True)}
    assert reply["ponder"]["verifier_adapters"] == reply["ponder"]["parts"] == {"judge": f"judge:{judge}"}
    assert all(0 < candidate["score"] < 1 for candidate in reply["ponder"]["candidates"])
    assert reply["ponder"]["tokens"]["verified"] > 0
    assert reply["ponder"]["flops"]["verify"] > 0
    assert by_base.status_code == 200
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "ponder")
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "ponder.verifier.adapter")
    assert (foreseen.status_code, foreseen.json()["error"]["message"]) == (400, unknown.json()["error"]["message"])


async def test_an_adapter_s_flops_are_counted(serve, made) -> None:
    """They are two for each parameter of the adapter and each token that was not cached."""
    async with serve(["one two three"]) as served:
        folder = made(1)
        parameters = 2 * 4 * (64 + 32)  # two layers' v_proj at rank 4
        await push(served, "a", folder)
        base = (await served.chat("Hi", ponder={"strategy": "direct"})).json()["ponder"]
        tuned = (await served.chat("Hi", model="a", ponder={"strategy": "direct"})).json()["ponder"]
    more_words = tuned["tokens"]["decoded"] - base["tokens"]["decoded"]
    assert more_words == 1  # the adapter's name
    architecture = SMALL.with_lora(parameters)
    prefill, decode = architecture.branch_cost(tuned["tokens"]["prefilled"], 0, tuned["tokens"]["decoded"])
    assert (tuned["flops"]["prefill"], tuned["flops"]["decode"]) == (prefill, decode)


async def test_deletion_and_what_cannot_be_deleted(serve, made) -> None:
    """A deleted name is unknown at once. The version that a name stands for cannot be deleted alone."""
    async with serve() as served:
        one = (await push(served, "a", made(1))).json()["version"][:8]
        two = (await push(served, "a", made(2))).json()["version"][:8]
        conflict = await served.client.delete(f"/v1/adapters/a:{two}")
        single = await served.client.delete(f"/v1/adapters/a:{one}")
        gone = await served.client.post("/v1/adapters/a/activate", json={"version": one})
        whole = await served.client.delete("/v1/adapters/a")
        again = await served.client.delete("/v1/adapters/a")
        asked = await served.chat(model="a")
        assert not served.engine.adapters
    assert (conflict.status_code, single.status_code, whole.status_code) == (409, 200, 200)
    assert [gone.status_code, again.status_code, asked.status_code] == [404, 404, 404]


async def test_a_refused_load_changes_nothing(serve, made) -> None:
    """If the engine refuses an adapter, the reply is a 400 and the old version is served on."""
    async with serve() as served:
        one = (await push(served, "a", made(1))).json()["version"][:8]
        served.engine.refused.add("probe")
        refused = await push(served, "a", made(2))
        assert await answering_version(served, "a") == f"a:{one}"
        assert len((await served.client.get("/v1/adapters/a")).json()["versions"]) == 1
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "adapter_failed"


async def test_vllm_s_own_routes(serve, made, tmp_path) -> None:
    """Bodies and replies are vLLM's own, so that existing tools work. Loading in place is a swap."""
    one, two = made(1), made(2)
    async with serve(adapter_import_dir=tmp_path / "import") as served:
        post = served.client.post
        loaded = await post("/v1/load_lora_adapter", json={"lora_name": "a", "lora_path": str(one)})
        twice = await post("/v1/load_lora_adapter", json={"lora_name": "a", "lora_path": str(two)})
        first = await answering_version(served, "a")
        inplace = await post("/v1/load_lora_adapter", json={"lora_name": "a", "lora_path": two.name, "load_inplace": True})
        second = await answering_version(served, "a")
        unloaded = await post("/v1/unload_lora_adapter", json={"lora_name": "a", "lora_int_id": 7})
        again = await post("/v1/unload_lora_adapter", json={"lora_name": "a"})
        asked = await served.chat(model="a")
        outside = await post("/v1/load_lora_adapter", json={"lora_name": "b", "lora_path": "/etc"})
        kept = (await served.client.get("/v1/adapters/a")).json()
    assert (loaded.status_code, loaded.text) == (200, "Success: LoRA adapter 'a' added successfully.")
    assert (twice.status_code, inplace.status_code) == (400, 200)
    assert "load_inplace" in twice.json()["error"]["message"]
    assert first != second
    assert (unloaded.status_code, unloaded.text) == (200, "Success: LoRA adapter 'a' removed successfully.")
    assert [again.status_code, asked.status_code, outside.status_code] == [404, 404, 400]
    assert (kept["state"], len(kept["versions"])) == ("inactive", 2)


async def test_administration_needs_its_own_key(serve, made) -> None:
    """A key for inference is refused, and nothing of an upload is read before the key is checked."""
    routes = [
        ("GET", "/v1/adapters"), ("POST", "/v1/adapters"), ("GET", "/v1/adapters/a"), ("DELETE", "/v1/adapters/a"),
        ("POST", "/v1/adapters/a/activate"), ("POST", "/v1/load_lora_adapter"), ("POST", "/v1/unload_lora_adapter"),
    ]  # fmt: skip
    bodies = {"/v1/adapters/a/activate": {"version": "0" * 8}, "/v1/load_lora_adapter": {"lora_name": "a", "lora_path": "a"}}
    async with serve(api_keys="user", admin_keys="root") as served:
        for method, path in routes:
            body = bodies.get(path, {"lora_name": "a"})
            for headers in ({}, {"Authorization": "Bearer user"}):
                refused = await served.client.request(method, path, json=body, headers=headers)
                assert refused.status_code == 401, (method, path)
        served.client.headers["Authorization"] = "Bearer root"
        assert (await push(served, "a", made(1))).status_code == 201
        assert (await served.client.get("/v1/adapters")).status_code == 200
    async with serve(api_keys="user") as served:
        served.client.headers["Authorization"] = "Bearer user"
        assert (await served.client.get("/v1/adapters")).status_code == 403
    async with serve() as served:
        assert (await served.client.get("/v1/adapters", headers={"Sec-Fetch-Site": "cross-site"})).status_code == 403


async def test_paths_are_imported_only_beneath_a_configured_folder(serve, made, tmp_path) -> None:
    """Without the setting no path is imported."""
    made(1)
    async with serve() as served:
        refused = await served.client.post("/v1/adapters", json={"name": "a", "path": "made-1"})
    async with serve(adapter_import_dir=tmp_path / "import") as served:
        taken = await served.client.post("/v1/adapters", json={"name": "a", "path": "made-1"})
        absolute = await served.client.post("/v1/adapters", json={"name": "b", "path": str(tmp_path / "import" / "made-1")})
    assert refused.status_code == 403
    assert (taken.status_code, absolute.status_code) == (201, 201)
    assert taken.json()["versions"][0]["source"] == "import:made-1"


@pytest.mark.parametrize(
    ("fields", "files"),
    [
        ({"name": "a"}, []),
        ({"name": "a", "color": "red"}, [("files", ("adapter_config.json", b"{}"))]),
        ({"name": "a", "activate": "perhaps"}, [("files", ("adapter_config.json", b"{}"))]),
        ({"name": "a"}, [("weights", ("adapter_config.json", b"{}"))]),
        ({"name": "a"}, [("archive", ("a.zip", b"")), ("archive", ("b.zip", b""))]),
        ({"name": "a"}, [("archive", ("a.zip", b"")), ("files", ("adapter_config.json", b"{}"))]),
        ({}, [("files", ("adapter_config.json", b"{}"))]),
    ],
)
async def test_forms_that_are_not_uploads(serve, fields: dict, files: list) -> None:
    """The reply is a 400, and the next upload is accepted."""
    async with serve() as served:
        response = await served.client.post("/v1/adapters", data=fields, files=files or [("x", ("", b""))])
        odd = await served.client.post("/v1/adapters", content=b"name=a", headers={"content-type": "text/plain"})
        cut = await served.client.post(
            "/v1/adapters", content=b"--x\r\n", headers={"content-type": "multipart/form-data; boundary=x"}
        )
    assert response.status_code == odd.status_code == cut.status_code == 400, response.text


async def test_when_all_slots_are_leased_a_request_is_refused_with_retry_after(serve, made) -> None:
    """The 503 comes after the server's longest wait, or after the request's own deadline, and counts as a rejection."""
    async with serve(["a b c d e f g h"], seconds_per_token=0.05, adapter_slots=1, adapter_wait_seconds=5) as served:
        await push(served, "a", made(1))
        await push(served, "b", made(2))
        asked = asyncio.create_task(served.chat(model="b"))
        await asyncio.sleep(0.1)
        refused = await served.chat(model="a", ponder={"budget": {"seconds": 0.1}})
        waited = await served.chat(model="a")
        assert (await asked).status_code == waited.status_code == 200
        page = (await served.client.get("/metrics")).text
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["code"] == "no_adapter_slot"
    assert 'ponder_rejections_total{reason="adapter_slots"} 1.0' in page


async def test_a_lost_version_is_reported(serve, made, tmp_path, monkeypatch) -> None:
    """Its requests get a 410, the list shows it as lost, and other versions are served on."""
    monkeypatch.setattr(registry_module, "FILE_CHECK_S", 0.02)
    async with serve() as served:
        await push(served, "a", made(1))
        await push(served, "b", made(2))
        shutil.rmtree(tmp_path / "adapters" / "a")
        await asyncio.sleep(0.1)
        lost = await served.chat(model="a")
        shown = (await served.client.get("/v1/adapters/a")).json()
        page = (await served.client.get("/metrics")).text
        assert (await served.chat(model="b")).status_code == 200
        assert (await push(served, "a", made(1))).status_code == 201
        assert (await served.chat(model="a")).status_code == 200
    assert (lost.status_code, lost.json()["error"]["code"]) == (410, "adapter_lost")
    assert shown["state"] == "lost"
    assert "gone" in shown["versions"][0]["lost"]
    assert 'ponder_adapter_state{adapter="a",state="lost"} 1.0' in page


async def test_metrics_by_adapter_and_none_of_those_that_are_gone(serve, made) -> None:
    """There are series for states, versions, leases, loads, swaps, requests, tokens and latency. Deleted names leave none."""
    async with serve() as served:
        await push(served, "a", made(1))
        await push(served, "a", made(2))
        await served.chat(model="a")
        await served.chat()
        page = (await served.client.get("/metrics")).text
        size = len(page.splitlines())
        for number in range(30):
            await push(served, f"name-{number}", made(3))
            await served.chat(model=f"name-{number}")
            await served.client.delete(f"/v1/adapters/name-{number}")
        after = (await served.client.get("/metrics")).text
    for line in (
        'ponder_adapter_state{adapter="a",state="serving"} 1.0',
        'ponder_adapter_versions_live{adapter="a"} 1.0',
        'ponder_adapter_leases{adapter="a"} 0.0',
        'ponder_adapter_swaps_total{adapter="a"} 2.0',
        'ponder_adapter_load_seconds_count{adapter="a"} 2.0',
        'ponder_requests_total{adapter="a",model="scripted",outcome="completed",strategy="adaptive"} 1.0',
        'ponder_tokens_total{adapter="a",kind="decoded"',
        'ponder_adapter_request_seconds_count{adapter="a"} 1.0',
        'ponder_adapter_failures_total{adapter="a"} 0.0',
        "ponder_time_to_first_token_seconds",
        'ponder_requests_total{adapter=""',
    ):
        assert line in page, line
    assert "name-" not in after
    assert len(after.splitlines()) == size


async def test_more_adapters_than_labels_share_one(serve, made, monkeypatch) -> None:
    """Adapters above the limit are counted together."""
    from app.telemetry import adapter_metrics

    monkeypatch.setattr(adapter_metrics, "MAX_LABELS", 2)
    async with serve() as served:
        for name in "abcd":
            await push(served, name, made(1))
            await served.chat(model=name)
        page = (await served.client.get("/metrics")).text
    assert 'adapter="other"' in page
    assert 'adapter="d"' not in page


async def test_a_folder_is_preloaded_and_a_roll_back_survives_the_restart(serve, made, tmp_path) -> None:
    """A known version is not activated again, and a broken one is left out."""
    preload = tmp_path / "preload"
    shutil.copytree(made(1), preload / "a")
    shutil.copytree(made(2), preload / "b")
    (preload / "b" / FILES[1]).write_bytes(b"broken")
    (preload / "bad name").mkdir()
    async with serve(adapter_preload_dir=preload) as served:
        one = await answering_version(served, "a")
        assert [adapter["id"] for adapter in (await served.client.get("/v1/adapters")).json()["data"]] == ["a"]
        await push(served, "a", made(3))
        two = await answering_version(served, "a")
        await served.client.post("/v1/adapters/a/activate", json={"version": one.split(":")[1]})
    async with serve(adapter_preload_dir=preload) as served:
        assert await answering_version(served, "a") == one
        await served.client.post("/v1/adapters/a/activate", json={"version": two.split(":")[1]})
    async with serve(adapter_preload_dir=preload) as served:
        assert await answering_version(served, "a") == two


async def test_shipped_adapters_are_served_beside_those_of_the_operator(serve, made, tmp_path, monkeypatch) -> None:
    """A new release swaps in its own versions, but never for a name that the operator uses."""
    monkeypatch.setattr("adapters.preload.SHIPPED", tmp_path / "shipped")
    shipped = tmp_path / "shipped" / DEFAULT_MODEL
    shutil.copytree(made(1), shipped / "reasoning")
    shutil.copytree(made(2), shipped / "verifier")
    async with serve(shipped_adapters=True) as served:
        first = await answering_version(served, "reasoning")
        assert (await served.client.get("/v1/adapters/reasoning")).json()["versions"][0]["source"] == "shipped:reasoning"
        await served.client.delete("/v1/adapters/verifier")
        await push(served, "verifier", made(4))
        own = await answering_version(served, "verifier")
    shutil.copytree(made(3), shipped / "reasoning", dirs_exist_ok=True)
    async with serve(shipped_adapters=True) as served:
        assert await answering_version(served, "reasoning") != first
        assert await answering_version(served, "verifier") == own
    for otherwise in ({"shipped_adapters": False}, {"shipped_adapters": True, "model": "another"}):
        async with serve(**otherwise) as served:
            names = [one["id"] for one in (await served.client.get("/v1/models")).json()["data"]]
            assert "verifier" in names
            assert "reasoning" not in names
    async with serve(shipped_adapters=True) as served:
        assert await answering_version(served, "reasoning") != first
    async with serve(shipped_adapters=True, model="another", adapter_dir=tmp_path / "empty") as served:
        assert (await served.client.get("/v1/adapters")).json()["data"] == []


async def test_a_watched_folder_swaps_in_what_changes(serve, made, tmp_path) -> None:
    """Requests run meanwhile."""
    preload = tmp_path / "preload"
    shutil.copytree(made(1), preload / "a")
    async with serve(adapter_preload_dir=preload, adapter_watch=True) as served:
        one = await answering_version(served, "a")
        await asyncio.sleep(0.5)
        shutil.copytree(made(2), preload / "a", dirs_exist_ok=True)
        async with asyncio.timeout(20):
            while await answering_version(served, "a") == one:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.1)


async def test_a_server_without_slots_holds_no_adapters(serve, made) -> None:
    """The error says so."""
    async with serve(adapter_slots=0) as served:
        pushed = await push(served, "a", made(1))
        asked = await served.chat(model="a")
        listed = (await served.client.get("/v1/models")).json()["data"]
    assert (pushed.status_code, asked.status_code) == (404, 404)
    assert "PONDER_ADAPTER_SLOTS" in pushed.json()["error"]["message"]
    assert {model["root"] for model in listed} == {"scripted", "auto"}


async def test_streams_name_their_version_too(serve, made) -> None:
    """The version is in the headers, before the first token, and in the last chunk's `ponder` object."""
    async with serve() as served:
        version = (await push(served, "a", made(1))).json()["version"][:8]
        response = await served.chat(model="a", stream=True)
        last = [json.loads(line[6:]) for line in response.text.split("\n\n") if line.startswith("data: {")][-1]
    assert response.headers["x-ponder-adapter"] == last["ponder"]["adapter"] == f"a:{version}"
    assert last["model"] == "a"


async def test_an_adapter_with_a_chat_template_thinks_while_its_base_does_not(serve, made, tmp_path) -> None:
    """Conversations are written with its template, also to be counted; the template itself is not shown."""
    preload = tmp_path / "preload"
    (made(1) / "chat_template.jinja").write_text("{{ messages }}<think>")
    shutil.copytree(made(1), preload / "thinker")
    asked = {"messages": [{"role": "user", "content": "Hi"}]}
    async with serve(
        lambda prompt, _: " so </think> 42" if prompt.endswith("<think>") else "41", adapter_preload_dir=preload
    ) as served:
        thought = (await served.chat(model="thinker")).json()["choices"][0]["message"]
        off = (await served.chat(model="thinker", chat_template_kwargs={"enable_thinking": False})).json()["choices"][0][
            "message"
        ]
        plain = (await served.chat()).json()["choices"][0]["message"]
        counts = [
            (await served.client.post("/tokenize", json={"model": name, **asked})).json()["count"]
            for name in ("scripted", "thinker")
        ]
        [shown] = (await served.client.get("/v1/adapters/thinker")).json()["versions"]
    assert thought["reasoning"].endswith(" so ")
    assert thought["content"] == " 42"
    assert "reasoning" not in {*off, *plain}
    assert counts[1] == counts[0] + 1
    assert shown["has_chat_template"]
    assert "<think>" not in str(shown)
