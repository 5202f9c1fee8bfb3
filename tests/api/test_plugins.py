"""Strategies and verifiers of other packages, over HTTP: they are served, listed and documented like the built-in ones."""

import sys
from types import ModuleType

import pytest

from strategies.core.strategy import Forecast
from strategies.core.verifier import Verifier
from strategies.direct import Direct
from strategies.registry import PluginError

pytestmark = pytest.mark.anyio


class Longest(Verifier):
    """Prefers long answers."""

    name = "longest"
    summary = "How long an answer is."

    async def score(self, task, candidates, model) -> list[float]:
        return [min(len(one.text) / 1000, 1.0) for one in candidates]


class Copied(Direct):
    """Answers as `direct` does."""

    name = "copied"
    summary = "Answers as direct does."

    def forecast(self, task, answer_tokens: int) -> Forecast:
        return Forecast(7, 7 * answer_tokens)


@pytest.fixture
def plugins(monkeypatch):
    """Names of the two, as an operator writes them."""
    module = ModuleType("third_party")
    module.Longest, module.Copied = Longest, Copied
    monkeypatch.setitem(sys.modules, "third_party", module)
    return ("third_party:Longest", "third_party:Copied")


async def test_plugins_answer_requests(serve, plugins) -> None:
    """By each way of choosing a strategy, and as a verifier of a built-in one."""
    async with serve(["a", "a long answer", "so"], plugins=plugins) as served:
        best = await served.chat(ponder={"strategy": "best_of_n", "n": 3, "verifier": "longest"})
        chosen = [
            await served.chat(ponder={"strategy": "copied"}),
            await served.chat(model="scripted@copied"),
            await served.client.post("/v1/copied/chat/completions", json=(await _body(served))),
        ]
        refused = await served.chat(ponder={"strategy": "best_of_n", "verifier": "shortest"})
    assert best.json()["choices"][0]["message"]["content"] == "a long answer"
    assert [one.json()["ponder"]["strategy"] for one in chosen] == ["copied"] * 3
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "ponder.verifier")
    assert "longest" in refused.json()["error"]["message"]


async def _body(served) -> dict:
    return {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]}


async def test_plugins_are_listed(serve, plugins) -> None:
    """In the model menu, in the options of the page, in the document of the API, and as labels of metrics that begin at zero."""
    async with serve(plugins=plugins) as served:
        models = (await served.client.get("/v1/models")).json()["data"]
        options = (await served.client.get("/playground/options")).json()
        schemas = (await served.client.get("/openapi.json")).json()["components"]["schemas"]
        metrics = (await served.client.get("/metrics")).text
    assert "scripted@copied" in {one["id"] for one in models}
    assert "copied" in {one["name"] for one in options["strategies"]}
    assert "longest" in {one["name"] for one in options["verifiers"]}
    assert "copied" in schemas["PonderOptions"]["properties"]["strategy"]["anyOf"][0]["enum"]
    assert 'strategy="copied"' in metrics


async def test_without_plugins_there_is_nothing_of_them(serve) -> None:
    """Two servers in one process have the plugins of their own settings."""
    async with serve() as served:
        refused = await served.chat(ponder={"strategy": "copied"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "ponder.strategy")


async def test_a_plugin_that_is_missing_stops_the_start(serve) -> None:
    """Before anything is served."""
    with pytest.raises(PluginError, match="cannot be imported"):
        async with serve(plugins=("nowhere:Missing",)):
            pass
