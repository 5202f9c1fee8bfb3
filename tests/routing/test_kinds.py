"""The detected kind of answer of prompts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.routing.kinds import detect_kind
from strategies.core.values import AnswerKind

PROMPTS = {
    AnswerKind.MATH: [
        "What is 17 + 25?",
        "17 + 25",
        "17+25=",
        "What's 12 times 9?",
        "Compute 3/4 of 96.",
        "Solve 3x + 5 = 20.",
        "Find x if 2x - 7 = 9",
        "Evaluate \\frac{1}{2} + \\frac{1}{3}.",
        "How many legs do 3 dogs and 4 chickens have?",
        "Natalia sold clips to 48 friends in April, and half as many in May. How many clips did she sell altogether?",
        "A train travels 60 km in 1.5 hours. How fast is it going?",
        "What is the sum of the first 10 odd numbers?",
        "What is the area of a circle of radius 3?",
        "Tom is 3 times as old as Ann, who is 7. How old is Tom?",
        "What is 15% of 80?",
        "What is the remainder when 100 is divided by 7?",
        "Weng earns $12 an hour. Yesterday she did 50 minutes of babysitting. How much did she earn?",
        "Calculate 2^10",
        "What is the probability of rolling a 6 with 2 dice?",
        "Simplify 4(x + 2) - 3x = 11",
    ],
    AnswerKind.CHOICE: [
        "Which is a fruit?\n(A) brick (B) apple (C) car",
        "Which planet is red?\nA. Venus\nB. Mars\nC. Jupiter",
        "Is water wet? A) yes B) no",
        "Pick one:\nA: cat\nB: dog\nC: cow\nD: hen",
    ],
    AnswerKind.OPEN: [
        "",
        "Hi",
        "Hello there!",
        "Tell me about your day.",
        "Write a poem about 3 cats.",
        "Write a function that adds 2 numbers",
        "Write a Python program to compute 5!",
        "Implement quicksort in Rust.",
        "Translate 'I have 3 dogs' to French.",
        "Summarize this: profits rose 5% to 3 million in 2020.",
        "Explain why the sky is blue.",
        "Explain how to solve 3x + 5 = 20.",
        "Who are you?",
        "What is the capital of France?",
        "What should I cook tonight?",
        "Give me 5 ideas for a party.",
        "List 3 cities in Italy.",
        "Tell me about 3 cities.",
        "What happened on 2024-05-01?",
        "My number is 555-1234, call me.",
        "Draft an email to 20 customers about 10% off.",
        "Describe the year 1984.",
        "Is a tomato a fruit?",
        "```python\nx = 1 + 2\n``` what does this print?",
        "Debug this: for i in range(10): print(i+1)",
        "Recommend 2 books.",
        "Why is 7 a lucky number?",
        "What is love?",
        "Discuss the 3 branches of government.",
        "Rewrite: he has 2 cat.",
        "How are you?",
        "Can you help me plan a 3 day trip to Rome?",
        "SQL query for the top 10 users?",
        "What is your opinion on 24 hour news?",
        "Compose a haiku with 17 syllables",
    ],
}
CASES = [(kind, prompt) for kind, prompts in PROMPTS.items() for prompt in prompts]


@pytest.mark.parametrize(("kind", "prompt"), CASES, ids=[prompt[:40] for _, prompt in CASES])
def test_the_kind_of(kind: AnswerKind, prompt: str) -> None:
    """Answers to mathematics and choices can be compared; writing, code and conversation are open."""
    assert detect_kind(prompt) is kind


def test_the_form_of_the_request_comes_first() -> None:
    """Tools and a response format decide before the text does."""
    assert detect_kind("What is 1 + 1?", has_tools=True) is AnswerKind.TOOLS
    assert detect_kind("What is 1 + 1?", response_format={"type": "json_object"}) is AnswerKind.JSON
    assert detect_kind("What is 1 + 1?", response_format={"type": "text"}) is AnswerKind.MATH


@given(st.text(max_size=500))
def test_any_text_has_a_kind(prompt: str) -> None:
    assert detect_kind(prompt) in AnswerKind


@pytest.mark.parametrize("unit", ["1 + ", "A) ", "how many ", "a", "(", "x=", "write "])
def test_only_the_ends_of_a_long_prompt_are_read(unit: str, seconds) -> None:
    """A million characters take about as long as the four thousand that are read."""

    def detect(length: int) -> float:
        text = unit * (length // len(unit))
        return seconds(lambda: detect_kind(text))

    assert detect(1_000_000) < 20 * detect(4_000) + 0.005
