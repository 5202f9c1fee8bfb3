"""Corrections of false lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.checking.calculator import corrected
from strategies.verifiers.equations import is_refuted

LINES = {
    "5 + 3 = 9": "5 + 3 = 8",
    "duck: 9*2=18, 20+18=37": "duck: 9*2=18, 20+18=38",
    "478+356=700+120+15=820+15=835": "478+356=834",  # which part of the sum is wrong nobody knows
    "So she pays $12 * 3 = $35.50 in all.": "So she pays $12 * 3 = $36.00",
    "$2.50 * 3 = $7.00": "$2.50 * 3 = $7.50",
    "1,200 + 300 = 1,600": "1,200 + 300 = 1,500",
    "3 + 4 = 7 + 5 = 13": "3 + 4 = 7 + 5 = 12",
    "12 * 24 = 284 cupcakes": "12 * 24 = 288",
    "min: 10-16=-(16-10)=-4, -4+60=56": "min: 10-16=-(16-10)=-6",
    "it is 7 / 8 = 0.8751": "it is 7 / 8 = 0.8750",
    "-2/8=-0.4": "-2/8=-0.25",
    "**12 x 3 = 35**": "**12 x 3 = 36",
}


@pytest.mark.parametrize(("line", "right"), LINES.items())
def test_the_first_result_that_is_wrong_is_put_right(line: str, right: str) -> None:
    """What comes after it is dropped: it was computed with it."""
    assert corrected(line) == right


@pytest.mark.parametrize(
    "line",
    [
        "100/7 = 15", "1 + 1 = 2", "", "no equation", "x => 1 + 1 = 2", "1 / 0 = 5", "2,5 + 1 = 3,5", "17/5 = 3", "5 = 4 + 2",
        "- 2 + 3 = 1", "30/4 = 7 rows and 2 over", "5 * 1000 = 5 kg", "3 * 20 = 1 hour", "In base 2, 101 + 11 = 1000",
        "2023-05-10 = 3 days",
        "it is not 2 + 2 = 5",
    ],
)  # fmt: skip
def test_what_may_mean_something_else_is_left_alone(line: str) -> None:
    """A result that is written wrongly misleads all that follows; one with endless decimals would be rounded in somebody's way."""
    assert corrected(line) is None


@given(st.text(alphabet="0123456789+-*/=().,:x %\n$#^", max_size=200))
def test_what_is_corrected_is_true_and_begins_as_the_line_does(line: str) -> None:
    """Whatever the line."""
    right = corrected(line)
    if right is not None:
        assert is_refuted(line)
        assert not is_refuted(right)
        assert line.startswith(right[: right.rfind("=") + 1])
