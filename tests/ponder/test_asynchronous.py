"""Asking without HTTP: the same service, the same checks, the same account."""

import asyncio
import re

import httpx
import pytest

import ponder
from app.main import create_app
from app.settings import Settings

pytestmark = pytest.mark.anyio

SUM = "What is 17 + 25?"


async def test_an_answer_has_what_it_took(model, engine) -> None:
    answer = await model.ask(SUM, strategy="self_consistency", n=8)
    assert answer.text == "17 + 25 = 42"
    assert answer.message["role"] == "assistant"
    assert answer.stop_reason is ponder.StopReason.SETTLED
    assert (
        answer.tokens == answer.account["tokens"]["decoded"] >= sum(len(one.candidate.token_ids) for one in answer.candidates)
    )
    assert answer.flops == answer.account["flops"]["total"] > 0
    assert 0 < answer.seconds < 60
    assert 0 < answer.difficulty < 1
    assert (answer.plan.strategy, answer.plan.params["n"]) == ("self_consistency", 8)
    assert {one.answer for one in answer.candidates} == {"42", "41"}
    assert len(engine.branches) == 8


async def test_the_same_request_over_http_has_the_same_account(settings, engine) -> None:
    """But for times and ids."""
    again = ponder.ScriptedEngine(ponder.cycle(["It is 42.", "17 + 25 = 42", "I say 41."]))
    async with ponder.load(engine=again, **settings) as model:
        answer = await model.ask(SUM, strategy="best_of_n", n=3, seed=5, max_tokens=20)
    app = create_app(Settings(**settings), engine)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        body = {"model": "scripted", "messages": [{"role": "user", "content": SUM}], "seed": 5, "max_tokens": 20}
        reply = (await client.post("/v1/chat/completions", json={**body, "ponder": {"strategy": "best_of_n", "n": 3}})).json()
    assert reply["choices"][0]["message"]["content"] == answer.text
    differs = {"seconds", "trace_id"}
    assert {key: reply["ponder"][key] for key in reply["ponder"].keys() - differs} == {
        key: answer.account[key] for key in answer.account.keys() - differs
    }


@pytest.mark.parametrize("budget", [ponder.Budget(tokens=5), {"tokens": 5}])
async def test_a_budget_is_kept(model, budget) -> None:
    """To the token, as over HTTP."""
    answer = await model.ask(SUM, strategy="self_consistency", n=8, budget=budget)
    assert answer.tokens <= 5
    assert answer.stop_reason is ponder.StopReason.TOKENS


async def test_a_conversation_and_further_fields_may_be_given(settings) -> None:
    """What the engine gets is what it would get over HTTP."""
    engine = ponder.ScriptedEngine(lambda prompt, _serial: prompt.replace("\n", "|"))
    async with ponder.load(engine=engine, **settings) as model:
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "A colour, stop here."}]
        answer = await model.ask(messages, strategy="direct", extra_body={"stop": " stop"})
        assert answer.text == "system: Be brief.|user: A colour,"


async def test_events_come_while_the_search_runs(model) -> None:
    """Progress of searches, and the words of a direct answer."""
    events: list[ponder.Delta | ponder.Progress] = []
    await model.ask(SUM, strategy="best_of_n", n=2, on_event=events.append)
    assert any(isinstance(event, ponder.Progress) and "2 of 2" in event.text for event in events)
    events.clear()
    answer = await model.ask(SUM, strategy="direct", on_event=events.append)
    assert "".join(event.text for event in events if isinstance(event, ponder.Delta)) == answer.text


async def test_many_questions_are_asked_at_the_same_time(model) -> None:
    answers = await asyncio.gather(*(model.ask(f"What is {number} + 25?", strategy="direct") for number in range(10)))
    assert len(answers) == 10


async def test_the_server_may_choose_the_model(model) -> None:
    """As over HTTP."""
    answer = await model.ask(SUM, model="auto")
    assert answer.account["answered_by"] == "scripted"
    assert [one["model"] for one in answer.account["cascade"]] == ["scripted"]
    assert (await model.explain(SUM, model="auto"))["members"][0]["model"] == "scripted"


async def test_a_plan_is_explained_without_an_answer(model, engine) -> None:
    plan = await model.explain(SUM, strategy="best_of_n", n=3, budget={"tokens": 100})
    assert plan["strategy"] == "best_of_n"
    assert plan["predicted"]["branches"] == 3
    assert plan["budget"]["tokens"] == 100
    assert engine.branches == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"strategy": "nonsense"}, ponder.InvalidRequest, "There is no strategy `nonsense`"),
        ({"strategy": "best_of_n", "n": 0}, ponder.InvalidRequest, "ponder.n"),
        ({"strategy": "best_of_n", "width": 3}, ponder.InvalidRequest, "ponder.width"),
        ({"temperature": -1}, ponder.InvalidRequest, "temperature: at least 0, got -1"),
        ({"model": "nobody"}, ponder.NotFound, "The model `nobody` does not exist."),
        (
            {"extra_body": {"chat_template_kwargs": {"a": "\ud800"}}},
            ponder.InvalidRequest,
            "chat_template_kwargs.a: a text has half a surrogate pair",
        ),
        ({"extra_body": {"max_tokens": "many"}}, ponder.InvalidRequest, "max_tokens"),
    ],
)
async def test_what_is_wrong_is_refused_as_over_http(model, engine, options, error, message) -> None:
    with pytest.raises(error, match=re.escape(message)):
        await model.ask(SUM, **options)
    assert engine.branches == []


async def test_a_dead_engine_is_an_error(model, engine) -> None:
    engine.die()
    with pytest.raises(ponder.EngineDead):
        await model.ask(SUM)


class Shout(ponder.Strategy[ponder.Params]):
    """One answer, by a strategy of one's own."""

    name = "shout"
    summary = "One answer."

    def width(self, num_choices: int) -> int:
        return num_choices

    def forecast(self, task: ponder.Task, answer_tokens: int) -> ponder.Forecast:
        return ponder.Forecast(1, answer_tokens)

    async def __call__(self, task: ponder.Task, model: ponder.Model, emit: ponder.Emit) -> ponder.Result:
        async with model.sample(ponder.Draw(task.prefix, 1, on_delta=emit)) as samples:
            [drawn] = [ponder.ScoredCandidate(candidate, candidate.text.upper()) async for candidate in samples]
        return ponder.Result((drawn,), (drawn,), ponder.ended(model))


async def test_a_class_of_ones_own_is_a_strategy(engine, settings) -> None:
    async with ponder.load(engine=engine, plugins=[Shout], **settings) as model:
        answer = await model.ask(SUM, strategy="shout")
        assert answer.candidates[0].answer == "IT IS 42."


async def test_a_plugin_that_is_none_is_refused(engine, settings) -> None:
    with pytest.raises(ponder.PluginError, match="nowhere"):
        async with ponder.load(engine=engine, plugins=["nowhere:Nothing"], **settings):
            pass
