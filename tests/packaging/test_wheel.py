"""What the wheel installs: one importable name, whole and runnable without this checkout."""

import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

IMPORT_ALL = """
    import importlib, pkgutil, sys
    import ponder

    def fail(name):
        raise

    names = [module.name for module in pkgutil.walk_packages(ponder.__path__, "ponder.", onerror=fail)]
    for name in names:
        if name.endswith("__main__"):
            continue
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as missing:
            if missing.name != "ray":  # an extra that only CI has
                raise
    moved = {"app", "strategies", "adapters"} & set(sys.modules)
    assert not moved, moved
    assert not any("CHECKOUT" == entry for entry in sys.path), sys.path
    print(len(names))
"""

ANSWER = """
    import asyncio, httpx
    from ponder.app.engine.scripted import ScriptedEngine, cycle
    from ponder.app.main import create_app
    from ponder.app.settings import Settings

    async def main():
        settings = Settings(adapter_dir="adapters", policy_dir="policies", shipped_adapters=False)
        app = create_app(settings, ScriptedEngine(cycle(["17 + 25 = 42"])))
        transport = httpx.ASGITransport(app)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            body = {"model": "scripted", "messages": [{"role": "user", "content": "What is 17 + 25?"}]}
            reply = await client.post("/v1/chat/completions", json=body)
            page = await client.get("/playground")
        print(page.status_code, reply.json()["ponder"]["candidates"][0]["answer"], reply.json()["choices"][0]["message"]["content"])

    asyncio.run(main())
"""


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_it_installs_one_name(names: list[str]) -> None:
    """Others may have an `app` too."""
    assert {name.split("/")[0].split("-")[0] for name in names} == {"ponder"}
    assert len(names) == len(set(names))


def test_what_only_this_repository_needs_is_not_in_it(names: list[str]) -> None:
    """Tests, screenshots, scripts and benchmarks."""
    assert not [name for name in names if {"tests", "scripts", "benchmarks", "screenshots", "examples"} & set(name.split("/"))]


@pytest.mark.parametrize(
    "name",
    [
        "py.typed",
        "adapters/shipped/smollm2-135m/reasoning/adapter_model.safetensors",
        "adapters/shipped/smollm2-135m/thinking/adapter_model.safetensors",
        "adapters/shipped/smollm2-135m/thinking/chat_template.jinja",
        "app/engine/weights/smollm2_chat_template.jinja",
        "app/playground/index.html",
        "app/playground/vendor/marked/marked.esm.js",
        "app/routing/shipped/reasoning.json",
        "app/engine/scripted.py",  # the published double for those who test a plugin
    ],
)
def test_what_is_served_and_what_plugins_need_is_in_it(names: list[str], name: str) -> None:
    assert f"ponder/{name}" in names


def test_every_module_is_imported_from_it(python: Callable[..., str]) -> None:
    """None by a name of the checkout, from none of its folders; all of them, with vLLM and the training libraries."""
    checkout = str(Path(__file__).parents[2])
    assert int(python("-W", "ignore", "-c", textwrap.dedent(IMPORT_ALL).replace("CHECKOUT", checkout)).split()[-1]) > 150


def test_its_command_runs(python: Callable[..., str], installed: Path) -> None:
    """As a module, and as the script that pip writes."""
    assert "serve" in python("-m", "ponder", "--help")
    assert "serve" in python(installed.with_name("ponder"), "--help")


def test_it_answers(python: Callable[..., str]) -> None:
    """Over the scripted engine, playground and all."""
    assert python("-c", textwrap.dedent(ANSWER)).split(maxsplit=2) == ["200", "42", "17 + 25 = 42\n"]
