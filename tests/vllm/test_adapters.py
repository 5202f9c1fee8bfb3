"""Adapters on real vLLM: recognisable ones, whose every word tells which version computed it (see tests/data/make_adapters.py)."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adapters.weights import BaseModel
from app.engine.architecture import Architecture
from app.engine.weights.default_model import ensure_default_model
from tests import malformed
from tests.peft_folder import write
from tests.server import ENVIRONMENT, ForkedServer, ended
from tests.swap_traffic import WORDS, swap_under_load

pytestmark = [pytest.mark.vllm, pytest.mark.anyio]

MODEL = "smollm2-135m"
ADAPTERS = Path(__file__).parents[1] / "data" / "adapters"
BIN = Path(sys.executable).parent
SLOTS = 3


@pytest.fixture(scope="module")
def adapter_server(tmp_path_factory):
    """A server of this file's own: with few slots, and a folder to import from."""
    folder = tmp_path_factory.mktemp("adapters")
    (folder / "import").mkdir()
    server = ForkedServer(
        "--adapter-slots", str(SLOTS), "--adapter-import-dir", str(folder / "import"), "--max-model-len", "2048",
        "--kv-cache-gib", "1", log=folder / "log"
    )  # fmt: skip
    server.wait()
    server.imports = folder / "import"
    yield server
    assert server.stop() == 0


@pytest.fixture
async def http(adapter_server):
    async with httpx.AsyncClient(base_url=adapter_server.url, timeout=300) as client:
        yield client


async def push(http: httpx.AsyncClient, name: str, folder: Path, **data) -> dict:
    files = [("files", (path.name, path.read_bytes())) for path in sorted(folder.iterdir()) if path.suffix != ".md"]
    response = await http.post("/v1/adapters", data={"name": name, **data}, files=files)
    assert response.status_code in (200, 201), response.text
    return response.json()


async def say(http: httpx.AsyncClient, model: str, question: str = "What is the capital of France?", **fields) -> str:
    body = {
        "model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 12, "temperature": 0, **fields,
    }  # fmt: skip
    response = await http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"]


def words(text: str) -> set[str]:
    return set(text.split())


async def slots(http: httpx.AsyncClient) -> dict[str, int]:
    return (await http.get("/v1/adapters")).json()["slots"]


async def test_a_swap_changes_the_answer_and_leaves_the_base_model_alone(http) -> None:
    """Push, swap, pin and roll back; the base model answers as before, also in one batch with adapters in all slots."""
    base = await say(http, MODEL)
    red = (await push(http, "colour", ADAPTERS / "red"))["version"][:8]
    assert words(await say(http, "colour")) == {"red"}
    green = (await push(http, "colour", ADAPTERS / "green"))["version"][:8]
    assert words(await say(http, "colour")) == {"green"}
    assert words(await say(http, f"colour:{red}")) == {"red"}
    for name in ("blue", "yes"):
        await push(http, name, ADAPTERS / name)
    assert (await slots(http)) == {"total": SLOTS, "held": SLOTS}
    models = [MODEL, "colour", "blue", "yes", MODEL, "blue"]
    answers = await asyncio.gather(*(say(http, model) for model in models))
    assert [words(answer) for answer in answers[1:4]] == [{"green"}, {"blue"}, {"Yes"}]
    assert answers[0] == answers[4] == base
    await http.post("/v1/adapters/colour/activate", json={"version": red})
    assert words(await say(http, "colour")) == {"red"}
    assert green != red


async def test_the_same_prompt_after_a_swap_is_answered_by_the_new_version(http) -> None:
    """Though all of its blocks are in the prefix cache; and its own blocks are found again."""
    long = "Consider the following list of words. " + "apple pear plum " * 60
    await push(http, "cache", ADAPTERS / "red")
    for name, word in (("red", "red"), ("blue", "blue"), ("green", "green"), ("red", "red")):
        await push(http, "cache", ADAPTERS / name)
        assert words(await say(http, "cache", long)) == {word}
    body = {"model": "cache", "messages": [{"role": "user", "content": long}], "max_tokens": 1}
    again = (await http.post("/v1/chat/completions", json=body)).json()["ponder"]["tokens"]
    assert again["cached"] >= 96


HAZARDS = """
import asyncio, json, os, shutil, sys
from pathlib import Path
from app.engine import hardware

os.environ.update(hardware.plan_cpu().environment(), VLLM_LOGGING_LEVEL="ERROR", HF_HUB_OFFLINE="1")
from adapters.ports import EngineAdapter
from app.engine.base import Branch
from app.engine.vllm.engine import VllmEngine
from app.engine.vllm.options import EngineOptions
from tests.forked import fork_vllm

model, red, blue, place, huge = sys.argv[1:]

async def main():
    fork_vllm()
    engine = VllmEngine(EngineOptions(
        model=model, name="m", max_model_len=1024, max_branches=4, block_size=32, adapter_slots=2, kv_cache_gib=1,
        dtype=hardware.plan_cpu().dtype,
    ))
    await engine.start()
    prompt = await engine.render_chat({"model": "m", "temperature": 0, "messages": [{"role": "user", "content": "apple pear " * 60}]})
    said = []

    async def base(name):
        branch = Branch(id=name, prompt=prompt, prefix=prompt.token_ids, max_tokens=8)
        return [output.text async for output in engine.generate(branch)][-1]

    for number, (source, salt) in enumerate([(red, "one"), (blue, "one"), (blue, "two")]):
        shutil.copytree(source, place, dirs_exist_ok=True)
        adapter = EngineAdapter("same-name", number + 1, place)  # vLLM tells adapters' blocks apart by name and path only
        await engine.load_adapter(adapter)
        branch = Branch(id=f"b{number}", prompt=prompt, prefix=prompt.token_ids, max_tokens=4, cache_salt=salt, adapter=adapter)
        said.append([output.text async for output in engine.generate(branch)][-1])
        await engine.unload_adapter(adapter)
    said.append(await base("before"))
    overflowing = EngineAdapter("huge", 8, huge)
    await engine.load_adapter(overflowing)
    for attempt in (engine.probe_adapter(overflowing), engine.load_adapter(EngineAdapter("gone", 9, "/no/such/folder"))):
        try:
            await attempt
        except Exception as error:
            said.append(type(error).__name__)
    await engine.unload_adapter(overflowing)
    said.append(await base("after"))
    said.append(str(engine.failure))
    print(json.dumps(said))
    await engine.close()

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_the_hazards_of_the_engine_itself(tmp_path) -> None:
    """On vLLM without the registry: stale blocks, an adapter that computes NaNs, and one whose folder is gone.

    Under one salt the replaced adapter's blocks answer, under another they do not. Ponder's names are never used twice, which hides
    this too; here the name is the same, so that the salt alone decides. NaNs in cache blocks would ruin the base model's answers.
    """
    script, huge = tmp_path / "hazards.py", tmp_path / "huge"
    script.write_text(HAZARDS)
    shutil.copytree(ADAPTERS / "red", huge)
    weights = load_file(huge / "adapter_model.safetensors")
    save_file({name: np.full_like(array, 3e38) for name, array in weights.items()}, huge / "adapter_model.safetensors")
    model = ensure_default_model(Path("~/.cache/ponder").expanduser(), print)
    run = subprocess.run(
        [sys.executable, script, model, ADAPTERS / "red", ADAPTERS / "blue", tmp_path / "place", huge],
        capture_output=True, text=True, timeout=400, cwd=Path(__file__).parents[2], env={**ENVIRONMENT, "PYTHONPATH": "."},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    [said] = [line for line in run.stdout.splitlines() if line.startswith('["')]  # vLLM logs its own end beside it
    first, stale, salted, before, probed, missing, after, failure = json.loads(said)
    assert (words(first), words(stale), words(salted)) == ({"red"}, {"red"}, {"blue"})
    assert (probed, missing, failure) == ("AdapterFailed", "AdapterFailed", "None")
    assert after == before != ""


async def test_the_scale_of_an_adapter_counts(http, tmp_path) -> None:
    """Alpha / r: the same weights at a thousandth of their scale leave the base model's answer as it is."""
    shutil.copytree(ADAPTERS / "red", tmp_path / "faint")
    config = tmp_path / "faint" / "adapter_config.json"
    config.write_text(config.read_text().replace('"lora_alpha": 1', '"lora_alpha": 0.001'))
    await push(http, "colour", tmp_path / "faint")
    assert "red" not in await say(http, "colour")
    await push(http, "colour", ADAPTERS / "red")
    assert words(await say(http, "colour")) == {"red"}


async def test_an_adapter_judges_on_the_engine(http) -> None:
    """The one that says Yes finds everything correct, the one that says red finds nothing so; both beside the base model."""
    await push(http, "judge", ADAPTERS / "yes")
    body = {
        "model": MODEL, "messages": [{"role": "user", "content": "Name a colour."}], "max_tokens": 12,
        "ponder": {"strategy": "best_of_n", "n": 4, "verifier": {"adapter": "judge"}},
    }  # fmt: skip
    account = (await http.post("/v1/chat/completions", json=body)).json()["ponder"]
    assert all(candidate["score"] > 0.99 for candidate in account["candidates"])
    assert account["tokens"]["verified"] > 0
    assert account["tokens"]["decoded"] == sum(candidate["tokens"] for candidate in account["candidates"]) + 4


async def test_a_folder_deleted_behind_the_server_s_back(http, adapter_server) -> None:
    """Under a running stream: it ends whole; the version is lost and its requests are told so; others go on."""
    await push(http, "doomed", ADAPTERS / "blue")
    await push(http, "colour", ADAPTERS / "red")
    body = {
        "model": "doomed", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 200, "temperature": 0, "stream": True,
    }  # fmt: skip
    text = ""
    async with http.stream("POST", "/v1/chat/completions", json=body) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    text += choice["delta"].get("content") or ""
            if "blue" in text and (adapter_server.adapter_dir / "doomed").exists():
                shutil.rmtree(adapter_server.adapter_dir / "doomed")
    assert text.split() == ["blue"] * 200
    for _ in range(50):
        lost = await http.post("/v1/chat/completions", json={**body, "stream": False, "max_tokens": 1})
        if lost.status_code != 200:
            break
        await asyncio.sleep(0.1)
    assert (lost.status_code, lost.json()["error"]["code"]) == (410, "adapter_lost")
    assert words(await say(http, "colour")) == {"red"}
    assert (await http.get("/ready")).status_code == 200
    await http.delete("/v1/adapters/doomed")


async def test_malformed_adapters_never_reach_the_engine(http, adapter_server) -> None:
    """All of them, made for this model; the engine holds what it held, the store what it kept."""
    config = json.loads((ensure_default_model(Path("~/.cache/ponder").expanduser(), print) / "config.json").read_text())
    architecture = Architecture.from_config(config)
    base = BaseModel(MODEL, architecture.num_layers, architecture.linear_modules)
    cases = malformed.cases(base, adapter_server.imports, max_rank=16)
    assert len(cases) >= 200

    def there() -> set[Path]:
        return {path for path in adapter_server.adapter_dir.rglob("*") if path.is_file()}

    before, held = there(), await slots(http)
    for case in cases:
        response = await http.post("/v1/adapters", **case.request())
        assert response.status_code in (400, 413), (case.name, response.text[:300])
        assert str(response.json()["error"]["param"]).startswith(case.field) or response.status_code == 413, case.name
    assert there() == before
    assert await slots(http) == held
    assert (await http.get("/ready")).status_code == 200
    fits = write(adapter_server.imports / "fits", base, rank=16, modules=base.modules)
    assert (await http.post("/v1/adapters", json={"name": "fits", "path": fits.name})).status_code == 201
    await http.delete("/v1/adapters/fits")


async def test_swaps_under_load(adapter_server) -> None:
    """No request fails, no answer is mixed or stale, and the engine holds no more adapters than it has slots.

    `benchmarks.swaps` measures the same for longer.
    """
    findings = await swap_under_load(adapter_server.url, [ADAPTERS / word for word in WORDS], swaps=12)
    assert len(findings.held) == 12
    assert (findings.failed, findings.mixed, findings.stale) == ([], [], [])
    assert max(findings.held) <= SLOTS


async def test_the_command_line(http, adapter_server) -> None:
    """Push, list, show, activate and remove, for people and as JSON; a refusal ends with the server's words."""

    def ponder(*arguments: str) -> subprocess.CompletedProcess:
        environment = {**ENVIRONMENT, "PONDER_URL": adapter_server.url}
        return subprocess.run(
            [BIN / "ponder", "adapters", *arguments], capture_output=True, text=True, timeout=120, env=environment
        )

    archive = shutil.make_archive(str(adapter_server.imports / "blue"), "zip", ADAPTERS / "blue")
    first = json.loads((await asyncio.to_thread(ponder, "push", "cli", str(ADAPTERS / "red"), "--json")).stdout)["version"]
    pushed = await asyncio.to_thread(ponder, "push", "cli", archive)
    assert "is served as cli" in pushed.stdout
    assert words(await say(http, "cli")) == {"blue"}
    assert f"cli:{first[:8]}" in (await asyncio.to_thread(ponder, "activate", "cli", first[:8])).stdout
    assert words(await say(http, "cli")) == {"red"}
    listed = {adapter["id"] for adapter in json.loads((await asyncio.to_thread(ponder, "list", "--json")).stdout)}
    assert "cli" in listed
    assert "serving" in (await asyncio.to_thread(ponder, "list")).stdout
    assert first[:8] in (await asyncio.to_thread(ponder, "show", "cli")).stdout
    assert (await asyncio.to_thread(ponder, "remove", "cli")).returncode == 0
    again = await asyncio.to_thread(ponder, "remove", "cli")
    assert again.returncode == 1
    assert again.stderr == "ponder: There is no adapter `cli`.\n"


async def test_a_killed_server_serves_the_same_after_its_restart(start_server, tmp_path) -> None:
    """SIGKILL, then a new process on the same folder: names, versions and a roll-back are as they were."""
    arguments = (
        "--max-model-len",
        "1024",
        "--kv-cache-gib",
        "1",
        "--adapter-slots",
        "2",
        "--adapter-dir",
        str(tmp_path / "kept"),
        "--no-shipped-adapters",
    )
    first = start_server(*arguments, is_forked=False)  # its processes end by what they import at their start
    async with httpx.AsyncClient(base_url=first.url, timeout=300) as http:
        red = (await push(http, "colour", ADAPTERS / "red"))["version"]
        await push(http, "colour", ADAPTERS / "blue")
        await http.post("/v1/adapters/colour/activate", json={"version": red[:8]})
    family = first.descendants()
    first.process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(first.process.wait, 30)
    assert await asyncio.to_thread(ended, family, 30), "vLLM's processes outlive the server"
    second = start_server(*arguments)
    async with httpx.AsyncClient(base_url=second.url, timeout=300) as http:
        shown = (await http.get("/v1/adapters/colour")).json()
        assert shown["current"] == red
        assert len(shown["versions"]) == 2
        assert (await slots(http))["held"] == 1
        assert words(await say(http, "colour")) == {"red"}
