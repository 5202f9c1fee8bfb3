"""The game of 24: the parser against a tree evaluator, and texts as models write them with their scores."""

import asyncio
import operator
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from strategies.answers.expressions import Expression, parse
from strategies.core.values import AnswerKind, Candidate, Task
from strategies.verifiers.arithmetic import ArithmeticParams, ArithmeticVerifier

pytestmark = pytest.mark.anyio

OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
SPELLINGS = {
    "+": "+",
    "-": "-\N{MINUS SIGN}\N{EN DASH}",
    "*": "*\N{MULTIPLICATION SIGN}\N{MIDDLE DOT}",
    "/": "/\N{DIVISION SIGN}",
}
LATEX = {"*": ["\\times ", "\\cdot "], "/": ["\\div "]}

leaves = st.integers(0, 9999) | st.decimals(0, 99, places=2).map(Fraction)
trees = st.recursive(
    leaves, lambda inner: st.tuples(st.just("neg"), inner) | st.tuples(st.sampled_from("+-*/"), inner, inner), max_leaves=8
)


def value_of(tree) -> Fraction:
    """The tree, evaluated as a tree."""
    if not isinstance(tree, tuple):
        return Fraction(tree)
    if tree[0] == "neg":
        return -value_of(tree[1])
    return OPERATORS[tree[0]](value_of(tree[1]), value_of(tree[2]))


def numbers_of(tree) -> tuple[Fraction, ...]:
    """Its leaves; a minus directly before one is part of it."""
    if not isinstance(tree, tuple):
        return (Fraction(tree),)
    if tree[0] == "neg" and not isinstance(tree[1], tuple):
        return (-Fraction(tree[1]),)
    return tuple(number for branch in tree[1:] for number in numbers_of(branch))


def render(tree, draw) -> str:
    """The tree as text: parentheses around every operation, signs and spaces drawn."""
    if not isinstance(tree, tuple):
        whole, hundredths = divmod(Fraction(tree) * 100, 100)
        digits = draw(st.sampled_from([str(whole), f"{int(whole):,}"]))
        return f"{digits}.{int(hundredths):02}" if isinstance(tree, Fraction) else digits
    if tree[0] == "neg":
        inner = render(tree[1], draw)
        return f"-{inner}" if inner[0] in "-(" or not isinstance(tree[1], tuple) else f"-({inner})"
    sign = draw(st.sampled_from([*SPELLINGS[tree[0]], *LATEX.get(tree[0], [])]))
    space = draw(st.sampled_from(["", " ", "  "]))
    return f"({render(tree[1], draw)}{space}{sign}{space}{render(tree[2], draw)})"


@settings(deadline=None)
@given(trees, st.data())
def test_expressions_mean_what_trees_mean(tree, data) -> None:
    """Value and numbers, however it is spelt; None exactly where something is divided by zero or the text is too long."""
    text = render(tree, data.draw)
    try:
        expected = Expression(value_of(tree), numbers_of(tree)) if len(text) <= 200 else None
    except ZeroDivisionError:
        expected = None
    assert parse(text) == expected


@settings(deadline=None)
@given(st.text(alphabet="0123456789+-*/() .,=\\x{}[]abc\n", max_size=300) | st.text(max_size=100))
@example("\N{ARABIC-INDIC DIGIT FOUR} + 1")
@example("\N{SUPERSCRIPT TWO}")
def test_junk_is_read_as_nothing_or_as_an_expression(text) -> None:
    """Never an exception."""
    assert isinstance(parse(text), Expression | None)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 + 3 * 4", 14),
        ("10 - 4 - 3", 3),
        ("24 / 4 / 2", 3),
        ("8 / 3", Fraction(8, 3)),
        ("-3 + 5", 2),
        ("2 * -3", -6),
        ("2 - -3", 5),
        ("-(2 + 3)", -5),
        ("1,234.5 * 2", 2469),
        (".5 + .5", 1),
        ("[1 + 2] * 3", 9),
        ("\\frac{8}{3 - \\frac{8}{3}}", 24),
        ("\\left(4 + 8\\right) \\times 2", 24),
        ("4 x 6", 24),
        ("0.1 + 0.2", Fraction(3, 10)),
    ],
)
def test_precedence_and_spellings(text, value) -> None:
    """As taught in school, and exact."""
    assert parse(text).value == value


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "4 +", "+ 4", "* 4", "(4", "4)", "()", "4 4", "(4)(5)", "2 ** 3", "2 ^ 3", "4 = 4", "4 + x", "1/0", "1/(2-2)",
        "1e5", "4!", "__import__('os')", "1,23", "1.2.3", "-", "--", "9" * 31, "1+" * 100 + "1", "(" * 40 + "1" + ")" * 40,
        "-" * 50 + "1",
    ],
)  # fmt: skip
def test_what_is_no_expression(text) -> None:
    """Nothing is guessed."""
    assert parse(text) is None


@pytest.fixture
def score(says, task, verifier_of):
    """`score(text, finish=…, numbers=…, target=…, use_all=…)`: the score of one answer."""

    async def judge(text: str, finish: str = "stop", **rule: object) -> float:
        verifier = verifier_of({"arithmetic": {"numbers": [4, 8, 5, 3], "target": 24} | rule})
        [value] = await verifier.score(task(), [says(0, text, finish=finish)], None)
        return value

    return judge


CHAIN = "4 + 8 = 12 (left: 12 5 3)\n5 - 3 = 2 (left: 12 2)\n12 * 2 = 24 (left: 24)\n"

SOLUTIONS = [
    "(4 + 8) * (5 - 3)",
    "(4 + 8) * (5 - 3) = 24",
    "(4+8)*(5-3)=24.",
    "24 = (4 + 8) * (5 - 3)",
    "(4 + 8) * (5 - 3) = 12 * 2 = 24",
    "(4 + 8) * (5 - 3)\n= 12 * 2\n\n= 24",
    "We find **(4 + 8) * (5 - 3) = 24**.",
    "\\boxed{(4 + 8) \\times (5 - 3) = 24}",
    "\\[(4 + 8) \\cdot (5 - 3) = 24\\]",
    "\\begin{aligned}(4 + 8) \\times (5 - 3) &= 12 \\times 2 \\\\\n&= 24\\end{aligned}",
    "$(4 + 8) \\times (5 - 3) = 24$, so the answer is $\\boxed{24}$",
    "Answer: (4 + 8) * (5 - 3)\nIt uses 4, 8, 5 and 3, and 4 + 8 = 12.",
    "4 * 8 = 32 is too big. But (4 + 8) * (5 - 3) = 24",
    CHAIN,
    CHAIN + "Answer: (4 + 8) * (5 - 3) = 24",
    CHAIN + "Answer: 24",
    "1. 4 + 8 = 12\n2. 5 - 3 = 2\n3. 12 * 2 = 24",
    "- 4 + 8 = 12\n- 5 - 3 = 2\n- 12 * 2 = 24.",
    "* 4 + 8 = 12\n* 5 - 3 = 2\n* 12 * 2 = 24",
    "**Step 1:** 4 + 8 = 12\n**Step 2:** 5 - 3 = 2\n### Step 3 - 12 * 2 = 24",
    "4+8=12, 5-3=2, 12*2=24",
    "First 4 + 8 = 12. Then 5 - 3 = 2; finally 12 * 2 = 24!",
    "4 + 8 = 12 -> 5 - 3 = 2 => 12 x 2 = 24",
    "(4 + 8 = 12) and (5 - 3 = 2) and (12 \N{MULTIPLICATION SIGN} 2 = 24)",
    "8 + 4 = 12 (left: 12, 5, 3)\n3 - 5 = -2 (left: [-2, 12])\n12 * -(-2) = 24",
]


@pytest.mark.parametrize("text", SOLUTIONS)
async def test_solutions(score, text) -> None:
    """A complete one is right; one that was not ended by the model is nearly so."""
    assert [await score(text), await score(text, "step"), await score(text, "length")] == [1.0, 0.95, 0.95]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "24",
        "\\boxed{24}",
        "I give up.",
        "4 + 8 + 5 + 3",
        "4 * 8 - 5 + 3",
        "4 * 8 - 5 + 3 = 24",
        "8 * 3 = 24",  # some are not used
        "(4 + 8) * (5 - 3) * (5 - 4) = 24",  # one twice
        "12 * 2 = 24",  # not given
        "(4 + 8) * (5 - 3) = 25",
        "(4 + 8) * (5 - 3) = 24 = 25",
        "4 + 8 = 12\n5 - 3 = 2",  # unfinished
        "4 + 8 = 12\n5 - 3 = 2\n12 + 2 = 14",  # elsewhere
        "4 + 8 = 13\n5 - 3 = 2\n12 * 2 = 24",  # untrue
        "4 + 8 = 12\n8 * 3 = 24",  # 8 is gone
        "4 + 8 = 12 (left: 12 5)\n5 - 3 = 2\n12 * 2 = 24",  # 3 is left as well
        CHAIN + "Answer: (4 + 8) * 2 = 24",
        CHAIN + "Answer: (4 + 8) * (5 - 3) = 25",
        "(4 + 8) * (5 - 3) = 24\n\\boxed{4 + 8 + 5 + 3}",  # what is boxed is the answer
        CHAIN + "Answer: 25.",
        CHAIN + "**Answer:** 4 + 8 + 5 + 3",
        CHAIN + "\\boxed{12}",
        "4 + 8 = 12\n5 - 3 = 2\n12 * 2 = 24\n24 // 7 = 3",  # whatever that is, it comes last
        "8 ** 3 - 5 = 24",
        "4 / 0 = 24",
        "4, 8, 5, 3 = 24",
    ],
)
async def test_no_solutions(score, text) -> None:
    """Complete answers that are wrong, by a little or by all."""
    assert await score(text) == 0.0


STEP = 0.8 / 3


@pytest.mark.parametrize("finish", ["step", "length", "abort"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0.1),
        ("Let me think about 4, 8, 5 and 3.\n", 0.1),
        ("4 + 8 = 12 (left: 12 5 3)\n", 0.1 + STEP),
        ("4 + 8 + 5 = 17\n", 0.1 + 2 * STEP),
        ("4 + 8 = 12\n12 // 5 = 2\n", 0.1 + STEP),
        ("4 + 8 = 12\n5 - 3 = 2\n", 0.1 + 2 * STEP),
        ("4 + 8 = 12\n5 - 3 = 2\n12 * ", 0.1 + 2 * STEP),
        ("4 + 8 = 12\n5 - 3 = 2\n12 * 2 =", 0.1 + 2 * STEP),
        ("4 + 8 = 13\nthat is", 0.0),
        ("4 + 8 = 12\n4 + 3 = 7\nthat is", 0.0),
        ("4 + 8 = 12 (left: 12 5)\nthat is", 0.0),
        ("4 + 8 = 12\n5 - 3 = 2\n12 + 2 = 14\nalas", 0.0),
    ],
)
async def test_unfinished_answers_score_by_their_steps(score, text, expected, finish) -> None:
    """A tenth to begin with, the rest by the numbers that are used up; nothing once there is no way on."""
    assert await score(text, finish) == pytest.approx(expected)


async def test_a_number_that_was_cut_is_not_held_against_an_answer(score) -> None:
    """A step ends where it should: there, it is."""
    text = "4 + 8 = 12\n12 * 5 = 6"
    assert [await score(text, finish) for finish in ("length", "abort", "step")] == pytest.approx([0.1 + STEP] * 2 + [0.0])


@pytest.mark.parametrize(
    ("text", "rule", "expected"),
    [
        ("8 * 3 = 24", {"use_all": False}, 1.0),
        ("8 - 5 = 3\n3 + 3 = 6\n6 * 4 = 24", {"use_all": False}, 1.0),
        ("8 * 3 = 24\n24 + 4 = 28", {"use_all": False}, 0.0),
        ("8 * 8 = 64", {"use_all": False, "target": 64}, 0.0),
        ("Answer: 24", {"numbers": [24]}, 1.0),
        ("24", {"numbers": [23]}, 0.0),
        ("0.1 + 0.2 = 0.3", {"numbers": [0.1, 0.2], "target": 0.3}, 1.0),
        ("1,200 + 34 = 1,234", {"numbers": [1200, 34], "target": 1234}, 1.0),
        ("-4 + 8 = 4", {"numbers": [-4, 8], "target": 4}, 1.0),
        ("-4 + 8 = 4", {"numbers": [4, 8], "target": 4}, 1.0),
        ("4 - 8 = -4", {"numbers": [-4, 8], "target": -4}, 0.0),
        ("8 / (3 - 8 / 3) = 24", {"numbers": [3, 3, 8, 8]}, 1.0),
        ("8 / (3 - 8 / 3) = 24", {"numbers": [3, 3, 8]}, 0.0),
        ("8 / 3 = 8/3\n3 - 8/3 = 1/3\n8 / (1/3) = 24", {"numbers": [3, 3, 8, 8]}, 0.0),  # a known limit: fractions as results
        ("8 / 4 = 2 (left: 2 1/2)\n2 * 0.5 = 1", {"numbers": [8, 4, 0.5], "target": 1}, 1.0),
        ("1 + 2 = 3", {"numbers": [1, 2], "target": 3.0}, 1.0),
    ],
)
async def test_other_rules(score, text, rule, expected) -> None:
    """Numbers of all sorts, all of them or some."""
    assert await score(text, **rule) == expected


@pytest.mark.parametrize(
    "rule",
    [
        {"numbers": [], "target": 24},
        {"numbers": [1] * 13, "target": 24},
        {"numbers": ["4"], "target": 24},
        {"numbers": [True], "target": 24},
        {"numbers": [10**16], "target": 24},
        {"numbers": [float("nan")], "target": 24},
        {"numbers": [4]},
        {"numbers": [4], "target": 4, "operators": "+"},
    ],
)
def test_broken_rules_are_refused(rule) -> None:
    """By their types and sizes."""
    with pytest.raises(ValidationError):
        ArithmeticParams.model_validate({"arithmetic": rule})


@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000,
        "(" * 50_000 + "1" + ")" * 50_000,
        "9" * 10_000,
        "1" + "+1" * 50_000,
        "-" * 100_000,
        "=" * 100_000,
        "1=" * 50_000,
        "1 = 1\n" * 20_000,
        "\n" * 100_000,
        "*" * 100_000,
        "\\frac{" * 20_000,
        "\\boxed{" * 20_000,
        "left:" * 20_000,
        "answer:" * 20_000,
        "1,000" * 20_000,
        " " * 100_000 + "=",
        "- " * 50_000,
        "999 * 999 = " * 10_000,
    ],
)
def test_hostile_texts_are_read_quickly(score, reads_in_linear_time, text) -> None:
    """In time that grows with their length alone, whether they ended or were cut."""
    assert asyncio.run(score(text)) == 0.0
    for finish in ("stop", "length"):
        assert reads_in_linear_time(lambda part, finish=finish: asyncio.run(score(part, finish)), text)


@settings(deadline=None)
@given(text=st.text(alphabet="0123456789+-*/()= .,\n:left*x\\", max_size=200))
async def test_whatever_is_written_has_a_score(text) -> None:
    """Within [0, 1], and 1 for complete answers only."""
    verifier = ArithmeticVerifier(ArithmeticParams.model_validate({"arithmetic": {"numbers": [4, 8], "target": 12}}), None)
    task = Task(question="?", prefix=(), kind=AnswerKind.MATH)
    ended, cut = await verifier.score(task, [Candidate(0, text, (), "stop"), Candidate(1, text, (), "abort")], None)
    assert ended in {0.0, 1.0}
    assert 0.0 <= cut < 1.0
