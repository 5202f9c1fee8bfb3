"""A conversation in which earlier answers stand as turns of the assistant, so that a model writes or judges with them in view."""

from collections.abc import Sequence

from strategies.core.values import Candidate, Task

AGAIN = "Answer the question again."
"""What the user says between two answers."""


class Turns:
    """Writes answers to a task as turns of one conversation.

    The thinking of the answers is left out: their turns are closed to it. Answers stand as they were generated, tool calls included, so
    the prompt with the first answer of a model that does not think is in the prefix cache.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        closed = task.encode(task.thinking.end) if task.thinking is not None and task.thinking.is_open else ()
        self._prompt = (*task.prefix, *closed)
        self._again = task.follow_up(AGAIN)  # rendered once: this takes a moment

    def of(self, answers: Sequence[Candidate]) -> tuple[int, ...]:
        """Return the token ids of the prompt and of these whole answers, with `AGAIN` between them, up to the end of the last one."""
        ids = self._prompt
        for number, answer in enumerate(answers):
            ids = (*ids, *(self._again if number else ()), *self._answer(answer))
        return ids

    def _answer(self, answer: Candidate) -> tuple[int, ...]:
        ids = answer.token_ids[answer.num_thinking :]
        return ids[:-1] if ids and ids[-1] in self._task.end_tokens else ids
