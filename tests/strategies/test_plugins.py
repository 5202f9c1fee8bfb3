"""Strategies and verifiers of others: one class is enough for all of ponder to know it."""

import sys
from types import ModuleType
from typing import Annotated

import pytest
from pydantic import Field, ValidationError

from strategies.best_of_n import BestOfN
from strategies.core.parameters import Params
from strategies.core.ports import ignore_events
from strategies.core.results import Result
from strategies.core.strategy import Forecast, Strategy
from strategies.core.values import AnswerKind, Draw, ScoredCandidate
from strategies.core.verifier import Verifier
from strategies.plugins import load_registries
from strategies.registry import BUILT_IN, STRATEGIES, VERIFIERS, PluginError
from strategies.verifiers import AnyVerifier

pytestmark = pytest.mark.anyio


class BrevityParams(Params):
    """`{"brevity": words}`."""

    brevity: Annotated[int, Field(ge=1, description="words of an answer that is short")]


class Brevity(Verifier):
    """Prefers short answers, and asks the model twice for each."""

    name = "brevity"
    summary = "Whether an answer is short."
    Params = BrevityParams
    scores_steps = False

    @classmethod
    def num_calls(cls, num_candidates: int) -> int:
        return 2 * num_candidates

    async def score(self, task, candidates, model) -> list[float]:
        return [float(len(one.text.split()) <= self.params.brevity) for one in candidates]


class Length(Verifier):
    """A verifier without parameters."""

    name = "length"
    summary = "How long an answer is."

    async def score(self, task, candidates, model) -> list[float]:
        return [min(len(one.text) / 100, 1.0) for one in candidates]


class FirstParams(Params):
    """Parameters of `first_of_two`."""

    verifier: Annotated[AnyVerifier | None, Field(description="who is asked")] = None


class FirstOfTwo(Strategy[FirstParams]):
    """Draws two answers and returns the first."""

    name = "first_of_two"
    summary = "Draws two answers and returns the first."
    Params = FirstParams

    def width(self, num_choices: int) -> int:
        return 2

    def forecast(self, task, answer_tokens: int) -> Forecast:
        return Forecast(2, 2 * answer_tokens)

    async def __call__(self, task, model, emit) -> Result:
        async with model.sample(Draw(task.prefix, 2)) as samples:
            drawn = tuple([ScoredCandidate(one) async for one in samples])
        return Result(drawn[:1], drawn, model.stopped)


PLUGINS = [Brevity, Length, FirstOfTwo]


async def test_a_verifier_is_one_class(make, says, task, context) -> None:
    """It is validated, built, asked and forecast by every strategy that lets a request choose a verifier."""
    spec = BUILT_IN.extended(PLUGINS).strategies["best_of_n"]
    params = spec.Params.model_validate({"n": 3, "verifier": {"brevity": 1}})
    assert params.model_dump(mode="json")["verifier"] == {"brevity": 1}
    strategy = spec(params, context)
    assert isinstance(strategy, BestOfN)
    assert strategy.forecast(task(), 10).verifier_calls == 6
    result = await strategy(task(AnswerKind.OPEN), make(says(0, "a b"), says(1, "c"), says(2, "d e f")), ignore_events)
    assert result.chosen[0].candidate.index == 1
    assert spec.Params.model_validate({"verifier": "length"}).verifier.name == "length"


@pytest.mark.parametrize("choice", ["brevity", {"brevity": 0}, {"brevity": "1"}, {"brevity": 1, "other": 2}, {"length": 1}])
def test_its_parameters_are_checked_as_ours(choice) -> None:
    """Those of unknown names, wrong types and wrong sizes are refused."""
    spec = BUILT_IN.extended(PLUGINS).strategies["best_of_n"]
    with pytest.raises(ValidationError):
        spec.Params.model_validate({"verifier": choice})


def test_it_is_documented_where_it_can_be_chosen() -> None:
    """The schema of the parameters lists it, where steps are scored only if it can score them."""
    registries = BUILT_IN.extended(PLUGINS)
    whole, steps = (str(registries.strategies[name].Params.model_json_schema()) for name in ("best_of_n", "beam_search"))
    assert "words of an answer that is short" in whole
    assert "words of an answer that is short" not in steps
    assert "'length'" in whole
    assert "'length'" in steps
    assert list(registries.strategies["best_of_n"].Params.model_fields) == list(BestOfN.Params.model_fields)


def test_plugins_may_use_one_another() -> None:
    """A strategy of others lets requests choose verifiers of others, and nothing of the built-in registries changes."""
    registries = BUILT_IN.extended(PLUGINS)
    assert registries.strategies["first_of_two"].Params.model_validate({"verifier": {"brevity": 3}}).adapters == ()
    assert registries.strategies.names() == (*STRATEGIES.names(), "first_of_two")
    assert registries.verifiers.names() == (*VERIFIERS.names(), "brevity", "length")
    assert "brevity" not in str(BestOfN.Params.model_json_schema())
    assert BUILT_IN.strategies["best_of_n"] is BestOfN


class _Unnamed(Length):
    name = "Bad Name"


class _Taken(Length):
    name = "majority"


class _Automatic(FirstOfTwo):
    name = "auto"


class _Silent(Length):
    name = "silent"
    summary = ""


class _Incomplete(Verifier):
    name = "incomplete"
    summary = "It cannot score."


class _Misnamed(Brevity):
    name = "shortness"


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        (_Unnamed, "lower-case letters"),
        (_Taken, "two verifier entries named majority"),
        (_Automatic, "has the name 'auto'"),
        (_Silent, "silent has no summary"),
        (_Incomplete, "does not define score"),
        (_Misnamed, "must be named shortness"),
        (dict, "neither a Strategy nor a Verifier"),
        (7, "neither a Strategy nor a Verifier"),
    ],
)
def test_what_is_no_plugin_is_refused(plugin, reason: str) -> None:
    """With one line that names it."""
    with pytest.raises(PluginError, match=reason) as refusal:
        BUILT_IN.extended([plugin])
    assert "\n" not in str(refusal.value)


@pytest.fixture
def module(monkeypatch):
    """A module of others that can be imported as `third_party`."""
    made = ModuleType("third_party")
    made.Brevity, made.FirstOfTwo, made.number = Brevity, FirstOfTwo, 7
    monkeypatch.setitem(sys.modules, "third_party", made)
    return made


def test_plugins_are_named_as_module_and_class(module) -> None:
    """One that is named twice is there once."""
    registries = load_registries(["third_party:Brevity", "third_party:FirstOfTwo", "third_party:Brevity"])
    assert registries.verifiers["brevity"] is Brevity
    assert registries.strategies["first_of_two"].summary == FirstOfTwo.summary


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        ("third_party", "write it as module:Class"),
        ("third_party:", "write it as module:Class"),
        ("not_installed:Thing", "not_installed:Thing cannot be imported: ModuleNotFoundError"),
        ("third_party:Missing", "third_party:Missing cannot be imported: AttributeError"),
        ("third_party:number", "neither a Strategy nor a Verifier"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_told(plugin: str, reason: str, module) -> None:
    """The message is for the operator who named it."""
    with pytest.raises(PluginError, match=reason):
        load_registries([plugin])
