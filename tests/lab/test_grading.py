"""Answers are graded by the data set's answer, by a rule, or by the majority of the answers."""

from collections.abc import Iterator

import pytest

from adapters.training.data import DatasetQuestion
from adapters.training.errors import DataRefused
from adapters.training.ports import Answer
from app.lab.grading import AnswerGrader


@pytest.fixture
def grader() -> Iterator[AnswerGrader]:
    with AnswerGrader() as grader:
        yield grader


def question(text: str = "What is 17 + 25?", **fields: object) -> DatasetQuestion:
    return DatasetQuestion(messages=[{"role": "user", "content": text}], **fields)


def whole(*texts: str) -> list[Answer]:
    return [Answer(text, is_whole=True) for text in texts]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "said", "grades"),
    [
        ("42", ["17 + 25 = 42\n#### 42", "#### 42.0", "It is 41.", "nothing"], [True, True, False, False]),
        ("She has 6 * 7 = 42\n#### 42", ["The answer is \\boxed{42}", "43"], [True, False]),
        ("olleh", ["h-e-l-l-o\n#### olleh", "#### Olleh", "#### hello"], [True, True, False]),
        ("1/2", ["#### 0.5", "#### 2"], [True, False]),
    ],
)
async def test_by_the_answer_of_the_data(answer, said, grades, grader):
    assert await grader.grade(question(answer=answer), whole(*said)) == grades


@pytest.mark.anyio
async def test_a_cut_answer_is_wrong(grader):
    assert await grader.grade(question(answer="42"), [Answer("#### 42", is_whole=False)]) == [False]


@pytest.mark.anyio
async def test_by_a_rule(grader):
    asked = question("24 from 2 3 4", verifier={"arithmetic": {"numbers": [2, 3, 4], "target": 24}})
    assert await grader.grade(asked, whole("2 * 3 * 4", "24")) == [True, False]


@pytest.mark.anyio
async def test_by_majority_where_nothing_else_is_known(grader):
    assert await grader.grade(question(), whole("#### 42", "42", "41")) == [True, True, False]
    assert await grader.grade(question(), whole("#### 42", "40", "41")) == [False] * 3


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"verifier": {"magic": 1}}, "not a rule that can grade"),
        ({"verifier": {"regex": "("}}, "not a rule that can grade"),
        ({"verifier": {"adapter": "judge"}}, "needs a model"),
        ({"answer": "1", "kind": "riddle"}, "`riddle` is not a kind of answer"),
    ],
)
async def test_rules_that_are_none_are_refused(fields, reason, grader):
    with pytest.raises(DataRefused, match=reason):
        await grader.grade(question(**fields), whole("1"))
