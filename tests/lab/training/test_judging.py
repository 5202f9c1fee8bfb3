"""Answers are judged by the answer that the data has, by a rule, or by what most of them say."""

from collections.abc import Iterator

import pytest

from adapters.training.data import Question
from adapters.training.errors import DataRefused
from adapters.training.sampling import Answer
from app.lab.training.grading import Judging


@pytest.fixture
def judging() -> Iterator[Judging]:
    judging = Judging()
    yield judging
    judging.close()


def question(text: str = "What is 17 + 25?", **fields: object) -> Question:
    return Question(messages=[{"role": "user", "content": text}], **fields)


def whole(*texts: str) -> list[Answer]:
    return [Answer(text, is_whole=True) for text in texts]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "said", "verdicts"),
    [
        ("42", ["17 + 25 = 42\n#### 42", "#### 42.0", "It is 41.", "nothing"], [True, True, False, False]),
        ("She has 6 * 7 = 42\n#### 42", ["The answer is \\boxed{42}", "43"], [True, False]),
        ("olleh", ["h-e-l-l-o\n#### olleh", "#### Olleh", "#### hello"], [True, True, False]),
        ("1/2", ["#### 0.5", "#### 2"], [True, False]),
    ],
)
async def test_by_the_answer_of_the_data(answer, said, verdicts, judging):
    assert await judging.judge(question(answer=answer), whole(*said)) == verdicts


@pytest.mark.anyio
async def test_a_cut_answer_is_wrong(judging):
    assert await judging.judge(question(answer="42"), [Answer("#### 42", is_whole=False)]) == [False]


@pytest.mark.anyio
async def test_by_a_rule(judging):
    asked = question("24 from 2 3 4", verifier={"arithmetic": {"numbers": [2, 3, 4], "target": 24}})
    assert await judging.judge(asked, whole("2 * 3 * 4", "24")) == [True, False]


@pytest.mark.anyio
async def test_by_majority_where_nothing_else_is_known(judging):
    assert await judging.judge(question(), whole("#### 42", "42", "41")) == [True, True, False]
    assert await judging.judge(question(), whole("#### 42", "40", "41")) == [False] * 3


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"verifier": {"magic": 1}}, "no rule that can judge"),
        ({"verifier": {"regex": "("}}, "no rule that can judge"),
        ({"verifier": {"adapter": "judge"}}, "needs a model"),
        ({"answer": "1", "kind": "riddle"}, "`riddle` is no kind of answer"),
    ],
)
async def test_rules_that_are_none_are_refused(fields, reason, judging):
    with pytest.raises(DataRefused, match=reason):
        await judging.judge(question(**fields), whole("1"))
