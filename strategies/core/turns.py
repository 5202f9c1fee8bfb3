"""A conversation in which earlier answers stand as turns of the assistant, so that a model writes or judges with them in view."""

from collections.abc import Sequence

from strategies.core.values import Candidate, Task

AGAIN = "Answer the question again."
"""What the user says between two answers."""


def with_answers(task: Task, answers: Sequence[Candidate]) -> tuple[int, ...]:
    """Return the token ids of the prompt and these whole answers, from `AGAIN` to each next one, up to the end of the last one.

    The thinking of the answers is left out: their turns are closed to it. Answers stand as they were generated, tool calls included, so
    the prompt with the first answer of a model that does not think is in the prefix cache.
    """
    closed = task.thinking.end_ids if task.thinking is not None and task.thinking.is_open else ()
    again = task.follow_up(AGAIN) if len(answers) > 1 else ()
    ids = (*task.prefix, *closed)
    for number, answer in enumerate(answers):
        ids = (*ids, *(again if number else ()), *_answer_ids(task, answer))
    return ids


def _answer_ids(task: Task, answer: Candidate) -> tuple[int, ...]:
    ids = answer.token_ids[answer.num_thinking :]
    return ids[:-1] if ids and ids[-1] in task.end_tokens else ids
