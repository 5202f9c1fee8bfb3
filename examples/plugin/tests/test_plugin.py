"""The strategy and the verifier over ponder's scripted engine: no model is needed."""

import pytest
from ponder_example.strategy import FirstGood
from ponder_example.verifier import Brief

import ponder

LONG, SHORT = "It is, as most people would agree, blue.", "Blue."


@pytest.fixture
def ask(tmp_path):
    """`ask(replies, …)`: the answer of `first_good` where the model gives these replies in turn."""

    def ask(replies: list[str], **options: object) -> ponder.Answer:
        engine = ponder.ScriptedEngine(ponder.cycle(replies))
        plugins = [FirstGood, Brief]
        with ponder.Ponder(engine=engine, plugins=plugins, adapter_dir=tmp_path, shipped_adapters=False) as model:
            return model.ask("Name a colour.", strategy="first_good", verifier={"brief": 2}, **options)

    return ask


def test_it_stops_at_the_first_wave_with_a_good_answer(ask) -> None:
    answer = ask([LONG, LONG, LONG, SHORT, LONG])
    assert (answer.text, answer.stop_reason) == (SHORT, ponder.StopReason.SETTLED)
    assert len(answer.candidates) == 4


def test_it_gives_the_best_where_none_is_good(ask) -> None:
    answer = ask([LONG, "It is blue, I say."], n=4)
    assert (answer.text, answer.stop_reason) == ("It is blue, I say.", ponder.StopReason.COMPLETED)
    assert [one.score for one in answer.candidates] == [2 / 8, 2 / 5] * 2


def test_a_budget_ends_it(ask) -> None:
    answer = ask([LONG], budget={"tokens": 20})
    assert answer.stop_reason is ponder.StopReason.TOKENS
    assert answer.tokens <= 20


def test_parameters_are_checked(ask) -> None:
    with pytest.raises(ponder.InvalidRequest, match=r"ponder\.wave"):
        ask([SHORT], wave=0)
