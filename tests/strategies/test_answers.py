"""Reading final answers, and telling when two are the same."""

import asyncio
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.answers.equivalence import Equivalence
from strategies.answers.reading import number_of, read_answer
from strategies.core.values import AnswerKind

MATH, CHOICE, JSON, TEXT = AnswerKind.MATH, AnswerKind.CHOICE, AnswerKind.JSON, AnswerKind.TEXT

TABLE = [
    (MATH, "17 + 25 is 42.", "42"),
    (MATH, "so 17 + 25 = 42", "42"),
    (MATH, "The answer is $1,234.50.", "2469/2"),
    (MATH, "#### 7", "7"),
    (MATH, "She has 3. #### 1,000 apples", "1000"),
    (MATH, "\\boxed{42}", "42"),
    (MATH, "first \\boxed{1}, no, \\boxed{\\frac{1}{2}}", "1/2"),
    (MATH, "\\boxed{0.5}", "1/2"),
    (MATH, "\\boxed{-3}", "-3"),
    (MATH, "\\boxed{x = 5}", "5"),
    (MATH, "\\boxed{50\\%}", "50"),
    (MATH, "\\boxed{12 \\text{ cm}}", "12"),
    (MATH, "\\boxed{x+1}", "x+1"),
    (MATH, "\\boxed{ \\left( 1, 2 \\right) }", "( 1, 2 )"),
    (MATH, "\\boxed{\\sqrt{2}}", "\\sqrt{2}"),
    (MATH, "\\boxed{unfinished", None),
    (MATH, "Answer: 12 apples, since 3 * 4", "12"),
    (MATH, "The final answer is **18**. It took 2 steps.", "18"),
    (MATH, "The total is: 3/4", "3/4"),
    (MATH, "between 5-3 it is 2", "2"),
    (MATH, "x is -2", "-2"),
    (MATH, "about .25 of it", "1/4"),
    (MATH, "The total is 3 * 4 = 12 apples.", "12"),
    (MATH, "So the total = 5 + 3 = 8.", "8"),
    (MATH, "#### 12 + 45 = 57", "57"),
    (MATH, "#### Step 2: add\n3 + 4 = 7\nThe answer is 7.", "7"),
    (MATH, "#### \\frac{3}{4}", "3/4"),
    (MATH, "#### **18**\nas 2 * 9", "18"),
    (MATH, "#### x = 5, for 2 * 5 = 10", "5"),
    (MATH, "#### 24 // 7 = 3", "3"),
    (MATH, "#### 10^2 = 100", "100"),
    (MATH, "##### Step 2: add\n3 + 4 = 7", "7"),
    (MATH, "The answer is 12 (3 boys, 4 + 5 = 9 girls)", "12"),
    (MATH, "The answer is 5-10 dollars", "5"),
    (MATH, "The answer is 2024-05-01", "2024"),
    (MATH, "The answer is 2x = 10", "10"),
    (MATH, "The answer is \u22125.", "-5"),
    (MATH, "it is \u22125.", "-5"),
    (MATH, "#### -$5.50", "-11/2"),
    (MATH, "3 / 0", None),
    (MATH, "no idea", None),
    (MATH, "", None),
    (CHOICE, "The answer is (B).", "B"),
    (CHOICE, "answer: d", "D"),
    (CHOICE, "B", "B"),
    (CHOICE, " (c) ", "C"),
    (CHOICE, "B. because the others are wrong", "B"),
    (CHOICE, "Options were (A) and (C); I take (C)", "C"),
    (CHOICE, "\\boxed{A}", "A"),
    (CHOICE, "\\boxed{\\text{E}}", "E"),
    (CHOICE, "none of them", None),
    (CHOICE, "The answer is b.", "B"),
    (CHOICE, "The answer is b) Paris", "B"),
    (CHOICE, "The answer is b. Paris", "B"),
    (CHOICE, "The answer is A which is the largest", "A"),
    (CHOICE, "The answer is A because the others are wrong", "A"),
    (CHOICE, "The answer is a bit tricky. I choose (B).", "B"),
    (CHOICE, "Answer: I think it is (D)", "D"),
    (CHOICE, "the best choice is a combination, so (B)", "B"),
    (JSON, '{"b": 1.0, "a": [2]}', '{"a": [2], "b": 1}'),
    (JSON, 'Here:\n```json\n{"a": true}\n```', '{"a": true}'),
    (JSON, '{"a": NaN}', None),
    (JSON, "{", None),
    (JSON, "[" * 100_000, None),
    (TEXT, "The Eiffel Tower!", "eiffel tower"),
    (TEXT, "The answer is: Paris.", "paris"),
    (TEXT, "\uff30aris", "paris"),
    (TEXT, "...", None),
    (TEXT, "h-e-l-l-o, backwards\n#### **olleh**\nDone.", "olleh"),
    (TEXT, "#### -3, 5.", "-3 5"),
    (TEXT, "#### \u22123, 5", "-3 5"),
    (TEXT, "The answer is 12:30.", "12:30"),
    (TEXT, "The result is 3.5!", "3.5"),
    (TEXT, "2-3 well-known well-3", "2-3 wellknown well3"),
    (TEXT, "Paris ####", "paris"),
    (AnswerKind.OPEN, "42", None),
]


@pytest.mark.parametrize(("kind", "text", "answer"), TABLE, ids=[f"{kind}-{text[:25]}" for kind, text, _ in TABLE])
def test_the_final_answer_of(kind: AnswerKind, text: str, answer: str | None) -> None:
    """Read as a person would."""
    assert read_answer(kind, text) == answer


@given(st.fractions(max_denominator=1000).filter(lambda value: abs(value) < 10**12))
def test_a_number_is_the_same_in_every_spelling(value: Fraction) -> None:
    """Fractions, LaTeX, thousands separators and currency."""
    top, bottom = value.numerator, value.denominator
    spellings = [f"{top}/{bottom}", f"\\frac{{{top}}}{{{bottom}}}"]
    if bottom == 1:
        spellings += [f"{top:,}", f"{top}.0", f"{top}.00 dollars", f"{top} %"]
        if top >= 0:
            spellings += [f"${top:,}"]
    assert {read_answer(MATH, f"\\boxed{{{spelling}}}") for spelling in spellings} == {str(value)}


@given(st.text(max_size=300), st.sampled_from(list(AnswerKind)))
def test_reading_never_fails_and_is_stable(text: str, kind: AnswerKind) -> None:
    """Whatever a model writes; and what was read of mathematics reads as itself."""
    answer = read_answer(kind, text)
    if kind is MATH and answer is not None and number_of(answer) is not None:
        assert read_answer(kind, answer) == answer


@pytest.mark.parametrize("kind", list(AnswerKind))
@pytest.mark.parametrize("opening", ["", "answer", "\\boxed{", "\\frac", "the answer is", "\\boxed{1"])
@pytest.mark.parametrize("unit", ["1,", "(A", "{", "\\boxed{", "\\frac{1", "answer is ", "9", "a", " \n", " ", "*", "```json"])
def test_reading_takes_no_longer_than_the_text_deserves(kind: AnswerKind, opening: str, unit: str, seconds) -> None:
    """A hostile text fifty times as long costs about fifty times as much, never its square."""

    def read(length: int) -> None:
        read_answer(kind, opening + unit * (length // len(unit)) + "!")

    assert seconds(lambda: read(100_000)) < 100 * max(seconds(lambda: read(2_000)), 1e-4) + 0.05


@pytest.fixture
def equivalence():
    """With a short time-out, closed at the end."""
    one = Equivalence(timeout=1.0)
    yield one
    one.close()


@pytest.mark.anyio
async def test_expressions_are_compared_by_mathematics(equivalence: Equivalence) -> None:
    """In another process, symmetric; numbers never go there."""
    assert await equivalence.same(MATH, "42", "42")
    assert not await equivalence.same(MATH, "42", "41")
    assert equivalence._pool is None
    assert await equivalence.same(MATH, "x+1", "1+x")
    assert await equivalence.same(MATH, "1+x", "x+1")
    assert await equivalence.same(MATH, "\\sqrt{4}", "2")
    assert not await equivalence.same(MATH, "x+1", "x+2")
    assert not await equivalence.same(MATH, "\\sqrt{2}", "\\frac{")


@pytest.mark.anyio
async def test_a_tower_of_exponents_neither_hangs_nor_blocks(equivalence: Equivalence) -> None:
    """It is given up after the time-out, the event loop runs on meanwhile, and the worker serves the next."""
    await equivalence.same(MATH, "x", "y")  # the worker is up
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    start = time.monotonic()
    assert not await equivalence.same(MATH, "9^{9^{9^{9}}}", "10^{9^{9^{9}}}+x")
    ticking.cancel()
    assert time.monotonic() - start < 20
    assert ticks > 5 or time.monotonic() - start < 0.5
    assert await equivalence.same(MATH, "a+b", "b+a")
    start = time.monotonic()
    assert not await equivalence.same(MATH, "9^{9^{9^{9}}}", "x+2")
    assert time.monotonic() - start < 0.5  # known to be hopeless


@pytest.mark.anyio
@settings(max_examples=30)
@given(st.sampled_from(list(AnswerKind)), st.text(max_size=20))
async def test_everything_is_the_same_as_itself(kind: AnswerKind, text: str) -> None:
    """Without starting the worker process."""
    one = Equivalence()
    assert await one.same(kind, text, text)
    assert one._pool is None
