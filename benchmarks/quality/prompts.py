"""Instructions and worked examples. Small models follow examples better than words, so examples show each format line by line.

The answer to a puzzle is its equations alone. Small models that write one expression in the end forget which numbers they have used.
"""

from collections.abc import Sequence

Example = tuple[str, str]
"""A question and its answer."""


def turns(instruction: str, examples: Sequence[Example]) -> tuple[dict[str, str], ...]:
    """Return messages: the instruction, then each example as a turn of user and assistant."""
    messages = [{"role": "system", "content": instruction}]
    for question, answer in examples:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return tuple(messages)


def puzzle(numbers: Sequence[int], target: int) -> str:
    """Return the question of a puzzle."""
    return f"Numbers: {' '.join(map(str, numbers))}. Target: {target}"


def _worked(numbers: Sequence[int], target: int, *equations: str) -> Example:
    """Return an example that does not list the numbers that are left: small models forget some, and a false list is a false step."""
    return puzzle(numbers, target), "\n".join(equations)


PUZZLE_EXAMPLES = (
    ((4, 9, 10, 13), 24, "13 - 9 = 4", "10 - 4 = 6", "4 * 6 = 24"),
    ((3, 6, 7), 25, "3 * 6 = 18", "7 + 18 = 25"),
    ((8, 1, 4, 8), 24, "8 / 4 = 2", "1 + 2 = 3", "8 * 3 = 24"),
    ((5, 11, 2), 32, "5 + 11 = 16", "2 * 16 = 32"),
    ((12, 2, 9, 10), 24, "12 * 2 = 24", "10 - 9 = 1", "24 * 1 = 24"),
    ((10, 4, 6), 36, "10 - 4 = 6", "6 * 6 = 36"),
    ((3, 8, 7, 10), 27, "10 - 7 = 3", "3 * 8 = 24", "3 + 24 = 27"),
)

PUZZLES = (
    (
        "Combine two of the numbers with + - * / on each line until one number is left, the target. Use each number exactly once. "
        "Write one equation per line."
    ),
    tuple(_worked(*example) for example in PUZZLE_EXAMPLES),
)

EQUATIONS = (
    "Solve the equation. Write one transformation per line and end with `#### number`.",
    (
        ("Solve for x: 3*x + 5 = 26", "3*x = 26 - 5 = 21\nx = 21 / 3 = 7\n#### 7"),
        ("Find the value of k in the equation: 40 - 2*k = 16", "2*k = 40 - 16 = 24\nk = 24 / 2 = 12\n#### 12"),
        ("Determine the value of a that satisfies: 12*a - 30 = 150", "12*a = 150 + 30 = 180\na = 180 / 12 = 15\n#### 15"),
    ),
)

STORIES = (
    "Solve the problem. Write one short line per step with its calculation and end with `#### number`.",
    (
        (
            "A baker makes 4 trays of 12 rolls and sells all but 6 for $2 each. How many dollars does he take in?",
            "He makes 4 * 12 = 48 rolls.\nHe sells 48 - 6 = 42 rolls.\nHe takes in 42 * 2 = 84 dollars.\n#### 84",
        ),
        (
            "Mia has 30 stickers. She gives a third of them to Tom and then buys 8 more. How many stickers does she have now?",
            "She gives away 30 / 3 = 10 stickers.\nShe has 30 - 10 = 20 left.\nNow she has 20 + 8 = 28 stickers.\n#### 28",
        ),
        (
            "A train ride is 45 km, three times as long as a bus ride. How long are 5 trips of one bus and two train rides?",
            "A bus ride is 45 / 3 = 15 km.\nA trip is 15 + 2 * 45 = 105 km.\n5 trips are 5 * 105 = 525 km.\n#### 525",
        ),
        (
            "Sam is 6 years older than Lena. In 4 years Lena will be 20. How old is Sam now?",
            "Lena is 20 - 4 = 16 years old.\nSam is 16 + 6 = 22 years old.\n#### 22",
        ),
        (
            "A coat costs $80. It is sold 25% off, and a $5 coupon is taken from that. How many dollars are paid?",
            "25% of 80 dollars are 80 / 4 = 20.\nThe price is 80 - 20 = 60 dollars.\nWith the coupon it is 60 - 5 = 55.\n#### 55",
        ),
    ),
)
