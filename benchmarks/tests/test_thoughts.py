"""Thinking for training: checks are true, a planted slip is found and mended, and the answer behind it is right."""

import random
import re
from fractions import Fraction

import pytest

pytest.importorskip("reasoning_gym")

from benchmarks.suite import questions, thoughts
from benchmarks.suite.checks import RIGHT, WAIT, thought
from benchmarks.suite.expressions import parse, value
from benchmarks.suite.families import BINS, FAMILIES, TRAINING
from benchmarks.suite.slips import NoSlip, Plant
from benchmarks.suite.thoughts import SOLVE

_EQUATION = re.compile(r"(?<![\w.+*/()-])-?[\d(][-+*/\d()]*(?:=-?[\d(][-+*/\d()]*)+(?![\w.])")


def chats(name, **shares):
    shares = {"mended": 0.5, "plain": 0.0, **shares}
    found = questions.mixed([name], list(BINS), "thoughts", 20)
    return found, list(thoughts.lines(found, **shares))


def parts(chat):
    """Return the solution, its check and what follows the thinking."""
    thinking, answer = chat["messages"][-1]["content"].removeprefix("<think>\n").split("\n</think>\n\n")
    solution, check = thinking.split(f"\n{WAIT}\n")
    return solution, check, answer


def false_equations(text):
    """Return the equations of a text whose sides are not all equal."""
    return [one for one in _EQUATION.findall(text) if len({Fraction(value(parse(side))) for side in one.split("=")}) > 1]


@pytest.mark.parametrize("name", sorted(SOLVE))
def test_a_right_solution_is_confirmed(name):
    for chat in chats(name, mended=0.0)[1]:
        solution, check, answer = parts(chat)
        assert check.endswith(f"\n{RIGHT}")
        assert ": no" not in check
        assert FAMILIES[name].kind.is_right(answer, chat["answer"])
        if name not in {"letter_counting", "gsm_symbolic"}:  # whose lines have equations in words
            assert not false_equations(solution)
            assert not false_equations(check)


@pytest.mark.parametrize("name", sorted(SOLVE))
def test_a_slip_is_found_and_mended(name):
    _, found = chats(name, mended=1.0)
    assert len(found) > 5
    for chat in found:
        solution, check, answer = parts(chat)
        [slip] = chat["unlearned"]
        checked, mended = check.split("\nSo ")
        assert slip in solution
        assert f"\n{slip}\n" not in f"\n{mended}\n"
        assert re.search(r": no, (not .+|.+ is (smaller|larger) than .+)$", checked)
        assert checked.count(": no") == 1
        assert FAMILIES[name].kind.is_right(answer, chat["answer"])
        if name not in {"letter_counting", "gsm_symbolic"}:
            assert not false_equations(checked.rpartition(": no")[0])
            assert not false_equations(mended)


def test_some_are_answered_without_thinking():
    found, made = chats("chain_sum", plain=0.3)
    plain = [chat for chat in made if "<think>" not in chat["messages"][-1]["content"]]
    assert 0.1 < len(plain) / len(made) < 0.5
    assert all(chat["chat_template_kwargs"] == {"enable_thinking": False} for chat in plain)
    assert {chat["messages"][-1]["content"] for chat in plain} <= {one.worked for one in found}


def test_a_family_without_a_check_is_only_answered_without_thinking():
    assert {family.name for family in TRAINING} - set(SOLVE) == {"count_bits"}
    assert chats("count_bits")[1] == []
    assert len(chats("count_bits", plain=1.0)[1]) == 60


def test_the_same_questions_make_the_same_chats():
    assert chats("gcd") == chats("gcd")


def test_questions_of_thoughts_are_not_those_of_the_other_splits():
    splits = {split: questions.mixed(["gcd"], list(BINS), split, 20) for split in ("thoughts", "validation", "test")}
    prompts = {split: {one.prompt for one in found} for split, found in splits.items()}
    assert not prompts["thoughts"] & (prompts["validation"] | prompts["test"])


def test_a_slip_changes_one_result():
    plant = Plant(1, random.Random(0))
    lines = [plant.line(line) for line in ("2+3=5", "47+85=120+12=132", "1+1=2")]
    assert lines[0] == "2+3=5"
    assert lines[1].startswith("47+85=")
    assert not lines[1].endswith("=132")
    assert lines[2] == "1+1=2"
    assert plant.count == 3


def test_a_story_that_is_not_understood_is_left_out():
    entry = {"answer": "17", "answer_cot": "There are 41-8-16 = 17 green bricks.\n#### 17"}
    with pytest.raises(NoSlip):
        thought(SOLVE["gsm_symbolic"], entry, random.Random(0), is_mended=False)
