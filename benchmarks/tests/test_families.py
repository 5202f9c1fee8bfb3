"""The families of the suite: their worked solutions and the checks of their answers are right."""

import re
from itertools import pairwise

import pytest

pytest.importorskip("reasoning_gym")

from benchmarks.suite import checking, questions
from benchmarks.suite.expressions import operations, parse, shown, value
from benchmarks.suite.families import BINS, HELD_OUT, TRAINING
from benchmarks.suite.steps import add, divide, multiply

MAX_TOKENS = 250
_EQUATION = re.compile(r"(?<![^\s=])-?[\d(][-+*/\d()]*(?:=-?[\d(][-+*/\d()]*)+")
_PLAIN = {"chain_sum", "products", "basic_arithmetic", "gcd", "leg_counting", "calendar_arithmetic"}


@pytest.mark.parametrize("number", BINS)
@pytest.mark.parametrize("family", TRAINING, ids=lambda family: family.name)
def test_worked_solutions_are_right_and_short(family, number):
    for one in questions.examples(family.name, number, "train", 200):
        assert family.kind.is_right(one.worked, one.answer), one
        assert one.worked.splitlines()[-1] == f"#### {one.answer}"
        assert len(re.findall(r"\d|[^\W\d]+|[^\w\s]|\n", one.worked)) < MAX_TOKENS, one
        if family.name in _PLAIN:
            for equation in _EQUATION.findall(one.worked):
                assert all(value(parse(a)) == value(parse(b)) for a, b in pairwise(equation.split("="))), one


@pytest.mark.parametrize("number", BINS)
@pytest.mark.parametrize("family", HELD_OUT, ids=lambda family: family.name)
def test_held_out_families_have_answers_that_their_checkers_read(family, number):
    for one in questions.examples(family.name, number, "test", 50):
        assert family.kind.is_right(f"Let me see.\n#### **{one.answer}**.", one.answer), one
        assert not family.kind.is_right("I do not know.", one.answer)
        assert one.worked == ""


@pytest.mark.parametrize(
    ("kind", "text", "gold", "is_right"),
    [
        ("NUMBER", "3+4=7\n#### 7", "7", True),
        ("NUMBER", "#### Answer: **1,234**.", "1234", True),
        ("NUMBER", "#### 12 + 45 = 57", "57", True),
        ("NUMBER", "#### answer\n57", "57", True),
        ("NUMBER", "#### Step 1: 3 legs\nSo the total is 57 legs.", "57", True),
        ("NUMBER", r"Thus \boxed{-57}.", "-57", True),
        ("NUMBER", "The answer is \u221257.", "-57", True),
        ("NUMBER", "#### 5.10", "5.1", True),
        ("NUMBER", "It is 57. Then 58.", "57", False),
        ("NUMBER", "#### none", "0", False),
        ("NUMBER", "", "0", False),
        ("NUMBER", f"#### {'9' * 5000}", "9", False),
        ("NUMBERS", "#### [-3, 5, '12']", "-3, 5, 12", True),
        ("NUMBERS", "Sorted: -3, 5, 12.", "-3, 5, 12", True),
        ("NUMBERS", "#### -3, 12, 5", "-3, 5, 12", False),
        ("NUMBERS", "#### []", "5", False),
        ("WORDS", "#### The, 'cat' , sat.", "the, cat, sat", True),
        ("WORDS", "Reversed: sat, cat, the", "sat, cat, the", True),
        ("WORDS", "#### sat cat the", "sat, cat, the", False),
        ("WORD", "o l l e h\n#### Olleh", "olleh", True),
        ("WORD", 'The word spelled backward is "olleh".', "olleh", True),
        ("WORD", "#### oleh", "olleh", False),
        ("CLOCK", "#### 2:35", "02:35", True),
        ("CLOCK", "The meeting took 02:35.", "02:35", True),
        ("CLOCK", "#### 02:35:01", "02:35", False),
        ("WEEKDAY", "Not Monday.\n#### It is a **friday**", "Friday", True),
        ("WEEKDAY", "#### Someday", "Friday", False),
        ("RELATION", "She is his mother-in-law's mother.", "mother", True),
        ("RELATION", "#### mother-in-law", "mother", False),
    ],
)
def test_answers_are_found_leniently_and_compared_exactly(kind, text, gold, is_right):
    assert getattr(checking, kind).is_right(text, gold) is is_right


def test_arithmetic_in_small_steps():
    assert add(478, 356) == "478+356=700+120+14=820+14=834"
    assert add(34, -78) == "34-78=-(78-34)=-(40+4)=-44"
    assert multiply(47, 36) == ["7*6=42: 2", "4*6+7*3+4=24+21+4=45+4=49: 9", "4*3+4=12+4=16", "47*36=1692"]
    assert divide(252, 14) == ["14*10=140, 252-140=100+10+2=112", "112/14=8", "252/14=10+8=18"]
    numbers = (-999, -345, -40, -7, 0, 3, 10, 89, 345, 1000)
    for a in numbers:
        for b in numbers:
            assert {value(parse(side)) for side in add(a, b).split("=")} == {a + b}
            assert multiply(a, b)[-1].endswith(f"={a * b}")
            if a > 0 and b > 0:
                assert divide(a * b, b)[-1].endswith(f"={a}")


def test_expressions_are_evaluated_in_order():
    tree = parse("-3 * ( 5 + -7 ) - -( 2 - 4 * 3 ) / 2")
    assert value(tree) == 1
    assert [shown(one) for one, *_ in operations(tree)][:3] == ["-3*(5+-7)--(2-4*3)/2", "-3*-2--(2-4*3)/2", "6--(2-4*3)/2"]
    with pytest.raises(ValueError, match="Call"):
        parse("__import__('os')")
