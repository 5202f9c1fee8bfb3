"""`equations` lowers the score of an answer only for false equations that it writes, and asks no model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.answers.equations import lines, normalised, statements
from strategies.best_of_n import BestOfN, BestOfNParams
from strategies.core.parameters import Params
from strategies.core.ports import ignore_events
from strategies.verifiers.equations import REFUTED, Equations, is_refuted

FALSE = [
    "5 + 3 = 9",
    "So 5 + 3 = 9 apples.",
    "478+356=700+120+14=820+14=835",
    "duck: 9*2=18, 20+18=37",
    "2*x = 10\nx = 10/2 = 4",
    "1. First, \\(12 \\times 3 = 35\\).",
    "She pays $1,000 + $5 * 2 = $1,010, that is 1,000 + 10 = 1,100",
    "10 / 3 = 3.5",
    "= 3 * 4 = 13",
    "**7 - 9 = 2**",
    "9 / 2 = 4, and 4 + 1 = 5",
    "5 + 3 = 8 + 100",
    "4 = 4 + 1",
    "2.5 + 3.5 = 7.00",
    "- 12 * 3 = 35",
]
TRUE = [
    "5 + 3 = 8",
    "2.999 + 3.999 = 7.00",
    "-$5 + $3 = -$2",
    "-69*-97=6693",
    "s: 4-57=-53, +60=7",
    "10 / 3 = 3.33",
    "2 / 3 = 0.66",
    "0.5 * 3 = 1.50",
    "9-10=-(10-9)=-1",
]
NOT_CLAIMED = [
    "",
    "no numbers",
    "half of 10 + 6 = 8",
    "x - 3 = 7",
    "x^2 - 3 = 6",
    "f(2) + 1 = 8",
    "17 mod 5 + 1 = 3",
    "20% * 50 = 10",
    "6 + 6 = 2x",
    "6 + 3 = 3 * y",
    "9 / 2 = 4 remainder 1",
    "9 / 2 = 4 \\text{ remainder } 1",
    "4 / 3 = 1 and 1/3",
    "2 + 1 = 3 thousand",
    "10:30 + 2 = 12:30",
    "24 // 7 = 3",
    "he is 476 = 238",
    "5 + 3 = 8 + 2 = 10",  # a calculation that runs on
    "1 1 0 0: +0=2",
    "Day 2 = 10 + 5 = 15",
    "The sum of 3 and 4 = 3 + 4 = 7",
    "The mean of 3, 4, 5 = (3 + 4 + 5) / 3 = 4",
    "gcd(12, 18) = 2 * 3 = 6",
    "C(5, 2) = (5 * 4) / 2 = 10",
    "Tax on $200 = 0.05 * 200 = $10",
    "So 13 is 1101 = 8 + 4 + 1 = 13",
    "Total cost - 3 * 4 = 12",
    "Apples \u2013 2 x 3 = 6",
    "17 / 5 = 3 R2",
    "17 / 5 = 3, remainder 2",
    "17 / 5 = 3 (remainder 2)",
    "17 / 5 = 3 with 2 left over",
    "64 \\div 55 = 1 \\quad \\text{with a remainder of} 9",
    "7 + 8 = 3 (mod 12)",
    "45 + 30 = 1 hour 15 minutes",
    "41 \\div 60 = 0 \\text{ hours} \\text{ and } 41",
    "100 / 7 = 14 weeks and 2 days",
    "8 + 5 = 1 pm",
    "7 / 2 = 3 and a half",
    "3/4 = 75\\%",
    "1/3 = 0.\\overline{3}",
    "1/3 = 0.(3)",
    "6 + 6 = 2 x",
    "Is 3 + 4 = 8? No",
    "So 1/4 = 10 students",
    "1 and 1/2 + 1/2 = 2",
    "0x10 = 16",
    "24 : 4 + 2 = 8",
]


@pytest.mark.parametrize("text", FALSE)
def test_a_false_equation_refutes(text: str) -> None:
    """Wherever it stands among words and signs."""
    assert is_refuted(text)


@pytest.mark.parametrize("text", TRUE + NOT_CLAIMED)
def test_what_is_true_or_not_certainly_claimed_does_not(text: str) -> None:
    """An answer without equations is not blamed."""
    assert not is_refuted(text)


@given(st.integers(-9999, 9999), st.integers(-9999, 9999), st.sampled_from("+-*"), st.integers(-50, 50))
def test_any_sum_or_product_is_known(a: int, b: int, sign: str, error: int) -> None:
    """Refuted just when it is wrong."""
    result = {"+": a + b, "-": a - b, "*": a * b}[sign] + error
    assert is_refuted(f"We get {a} {sign} {b} = {result}.") == (error != 0)


@given(st.text(alphabet="0123456789+-*/=().,:x %\n$#^", max_size=300))
def test_any_text_is_read(text: str) -> None:
    """Without an error."""
    is_refuted(text)


@pytest.mark.parametrize("piece", ["1=1,", "(", "1+", "=", "1=1 ", "- ", "9" * 29 + "*", "\n=1", "a (", "**"])
def test_a_long_text_takes_linear_time(piece: str, seconds) -> None:
    """A hostile text ten times as long costs about ten times as much, never its square."""

    def read(length: int) -> None:
        for line in lines(normalised(piece * (length // len(piece)))):
            list(statements(line))

    assert seconds(lambda: read(20_000)) < 30 * max(seconds(lambda: read(2_000)), 1e-4) + 0.05


async def scores(says, make, task, context, *candidates) -> list[float]:
    return await Equations(Params(), context).score(task(), list(candidates), make())


@pytest.mark.anyio
async def test_two_classes_each_by_likelihood(says, make, task, context) -> None:
    """The likeliest of what is refuted comes after the least likely of what is not."""
    candidates = [
        says(0, "1+1=3 #### 3", logprob=-0.1),
        says(1, "1+1=3 #### 3", logprob=-2.0),
        says(2, "1+1=2 #### 2", logprob=-2.0),
        says(3, "it is 2", logprob=-0.1),
    ]
    worst, bad, good, best = sorted(found := await scores(says, make, task, context, *candidates))
    assert [found.index(score) for score in (worst, bad, good, best)] == [1, 0, 2, 3]
    assert bad <= REFUTED
    assert good >= 1 - REFUTED


@pytest.mark.anyio
async def test_a_number_that_was_cut_is_not_held_against_it(says, make, task, context) -> None:
    """An 8 at the end may become 830."""
    cut, stopped = await scores(
        says, make, task, context, says(0, "1+1=2\n700+130=8", finish="length"), says(1, "1+1=2\n700+130=8")
    )
    assert cut >= 1 - REFUTED
    assert stopped <= REFUTED


@pytest.mark.anyio
async def test_a_vote_without_the_refuted(make, task, context) -> None:
    """Two who miscalculate alike lose against one who does not."""
    model = make("2+2=5\n#### 5", "2+2=5\n#### 5", "2+2=4\n#### 4")
    strategy = BestOfN(BestOfNParams(n=3, verifier="equations", select="vote"), context)
    result = await strategy(task(), model, ignore_events)
    assert result.chosen[0].answer == "4"
