"""What several strategies and verifiers refuse before anything is generated."""

from strategies.core.errors import UnsupportedTask
from strategies.core.values import AnswerKind, Task


def check_choices(name: str, task: Task, available: int, parameter: str) -> None:
    """Raise `UnsupportedTask` if the caller wants more answers than there will be candidates."""
    if task.num_choices > available:
        message = f"{name} cannot return {task.num_choices} of {available} candidates"
        raise UnsupportedTask(message, parameter=parameter)


def check_comparable(name: str, task: Task, *, parameter: str = "answer") -> None:
    """Raise `UnsupportedTask` if answers to the task cannot be compared, so that a vote would mean nothing.

    Args:
        name: of what needs to compare them.
        task: whose kind of answers is looked at.
        parameter: what the caller may change instead of saying the kind.

    """
    if task.kind is AnswerKind.OPEN:
        remedy = " (math, choice, json, text)" if parameter == "answer" else f", or choose another {parameter}"
        message = f'{name} needs answers that can be compared: set "answer" to their kind{remedy}'
        raise UnsupportedTask(message, parameter=parameter)
