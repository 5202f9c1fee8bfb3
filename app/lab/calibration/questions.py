"""The questions of a calibration: which lines of a file can be used, and what is said of the others."""

from collections.abc import Sequence

from adapters.training.data import DatasetQuestion, read_prompts, read_questions
from app.lab.calibration.fitting import MIN_QUESTIONS
from app.lab.calibration.options import CalibrateOptions
from app.lab.calibration.pool import PoolRefused
from app.lab.grading import kind_of
from app.lab.progress import say
from app.routing.kinds import detect_kind
from strategies.core.values import AnswerKind


def questions_of(options: CalibrateOptions) -> list[DatasetQuestion]:
    """Return the different questions of the data, in a fixed random order where time may end the calibration.

    Raises:
        DataRefused: the file has a bad line, or none, or names a kind of answer that does not exist.
        PoolRefused: too few questions can be used.

    """
    lines = _prompts(options) if options.unlabelled else _answered(options)
    for one in lines:
        kind_of(one)  # before the engine starts, which takes a minute
    questions = list({one.key: one for one in lines}.values())
    if len(questions) < MIN_QUESTIONS:
        raise PoolRefused(
            f"{options.source} has {len(questions)} different questions that can be used, in {len(lines)} lines; "
            f"at least {MIN_QUESTIONS} are needed, hundreds are better"
        )
    # a key is a hash of the question, so its order is random, and the same each time
    return questions if options.minutes is None else sorted(questions, key=lambda one: one.key)


def _answered(options: CalibrateOptions) -> Sequence[DatasetQuestion]:
    questions = read_questions(options.source)
    if unanswered := sum(one.answer is None and one.verifier is None for one in questions):
        raise PoolRefused(
            f"{unanswered} questions of {options.source} have neither an `answer` nor a `verifier` to tell what is right; "
            "--unlabelled needs neither"
        )
    return questions


def _prompts(options: CalibrateOptions) -> Sequence[DatasetQuestion]:
    """Return the prompts whose answers can be compared, without what the data say is right."""
    prompts = read_prompts(options.source)
    if answered := sum(one.answer is not None or one.verifier is not None for one in prompts):
        say(f"{answered} of {len(prompts)} prompts have an answer, which --unlabelled does not use")
    comparable = [one for one in prompts if _is_comparable(one)]
    if not comparable:
        raise PoolRefused(
            f"{options.source}: no prompt asks for an answer that can be compared, such as a number or one of several options; "
            'a line may name the `kind` of its answer ("math", "choice", "json", "text")'
        )
    if num_open := len(prompts) - len(comparable):
        say(f"{num_open} of {len(prompts)} prompts are left out: their answers are open, so agreement says nothing about them")
    return [one.model_copy(update={"answer": None, "verifier": None}) for one in comparable]


def _is_comparable(question: DatasetQuestion) -> bool:
    kind = detect_kind(question.messages[-1].content) if question.kind == "auto" else question.kind
    return kind != AnswerKind.OPEN
