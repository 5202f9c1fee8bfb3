"""Measures whether a large model may judge what a small one disagrees on, in place of an answer of its own.

`python -m benchmarks.judging ask --small FOLDER… --large FOLDER… --model MODEL --out FILE` asks the judge, and resumes where it was
stopped; `python -m benchmarks.judging report --small FOLDER… --large FOLDER… --out FILE` writes the tables. The folders are those that
`ponder calibrate` filled with the answers of both models to the same questions.

A question counts where the first answers of the small model disagree. No pick is right where none of them is, so the judge is asked
first where one is right. Of the other questions its prompts are counted, and then it is asked of as many as there is time for: they
show whether its doubts tell that no draft is right.
"""

import argparse
import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from adapters.disk import append_line
from app.engine.build import CPU_BLOCK_SIZE
from app.lab.progress import counting
from app.lab.service import LabService, start_service
from benchmarks.judgements import (
    ANSWERS,
    POINTWISE,
    SEED,
    TIMED,
    TIMED_TOKENS,
    WAYS,
    Ask,
    Disagreement,
    Judgement,
    read_disagreements,
    read_judgements,
)
from benchmarks.judging_report import report
from strategies.answers.equivalence import Equivalence
from strategies.core.ports import Model
from strategies.core.values import AnswerKind, Task
from strategies.verifiers.p_true import QUESTION

LETTERS = "ABCD"

NUM_TIMED = 6

NUM_COMPARED = 48
"""The questions with a right draft for which the ways to ask the judge are compared. The dearer ways are asked of these alone."""

OPENING = "The right answer is ("
"""How the answer of the judge begins. Without it the judge begins to work the question out."""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judging", description=__doc__)
    parser.add_argument("what", choices=("ask", "report"))
    parser.add_argument("--small", type=Path, nargs="+", required=True, help="folders of pools of the model that drafts")
    parser.add_argument("--large", type=Path, nargs="+", required=True, help="folders of pools of the model that judges")
    parser.add_argument("--model", help="of the judge")
    parser.add_argument("--out", type=Path, required=True, help="file of the judgements")
    arguments = parser.parse_args()
    with closing(Equivalence()) as equivalence:
        found, judge = asyncio.run(read_disagreements(arguments.small, arguments.large, equivalence))
    if arguments.what == "ask":
        asyncio.run(ask_all(arguments.model, found, arguments.out))
    else:
        report(found, read_judgements(arguments.out), judge)


async def ask_all(model: str, questions: Sequence[Disagreement], out: Path) -> None:
    """Ask the judge what is missing in a file."""
    known = read_judgements(out)
    # by chance, and the same where a pool has grown; those that were begun come first
    order = sorted(questions, key=lambda one: random.Random(f"{SEED} {one.small.key}").random())
    order.sort(key=lambda one: -sum((one.small.key, way) in known for way in WAYS))
    with_right, others = ([one for one in order if one.has_right is wanted] for wanted in (True, False))
    work = [(one, ANSWERS, True) for one in with_right]
    work += [(one, way, True) for one in others[:NUM_TIMED] for way in (TIMED, ANSWERS)]
    work += [(one, way, True) for way in WAYS for one in with_right[:NUM_COMPARED]]
    work += [(one, ANSWERS, is_asked) for is_asked in (False, True) for one in others]
    async with start_service(model, {}, max_tokens=TIMED_TOKENS) as service:
        with counting("judgements") as progress:
            for number, (one, way, is_asked) in enumerate(work, 1):
                before = known.get((one.small.key, way))
                if before is None or (is_asked and way != TIMED and not before.was_asked):
                    doing = _time(service, one) if way == TIMED else _judge(service, one, way, is_asked=is_asked)
                    known[one.small.key, way] = judgement = await doing
                    append_line(out, judgement.model_dump_json())
                progress(number, len(work))


async def _time(service: LabService, question: Disagreement) -> Judgement:
    """Begin the large model's own answer, of one token and of some more."""
    asks = []
    tokens = len(question.large.prefix)
    for most, cached in ((1, 0), (TIMED_TOKENS, (tokens - 1) // CPU_BLOCK_SIZE * CPU_BLOCK_SIZE)):
        began = time.monotonic()
        await service.run(
            {"messages": [{"role": "user", "content": question.small.question}], "max_tokens": most},
            request_id=question.small.key, question=question.small.question, kind=AnswerKind.OPEN, temperature=0.0,
        )  # fmt: skip
        asks.append(Ask(tokens=tokens, cached=cached, seconds=round(time.monotonic() - began, 3)))
    return Judgement(key=question.small.key, way=TIMED, asks=tuple(asks))


async def _judge(service: LabService, question: Disagreement, way: str, *, is_asked: bool) -> Judgement:
    asks: list[Ask] = []
    prompts: list[tuple[int, ...]] = []
    opening = () if way == POINTWISE else service.encode(OPENING)
    for text, shown in _texts(question, way):
        letters = "AB" if way == POINTWISE else LETTERS[: len(shown)]
        options = [service.encode(letter)[0] for letter in letters]

        async def score(task: Task, model: Model, options: Sequence[int] = options) -> tuple[tuple[int, ...], list[float]]:
            prompt = (*task.prefix, *opening)
            return prompt, await model.score_options(prompt, options) if is_asked else []

        began = time.monotonic()
        prompt, logprobs = await service.with_model(
            {"messages": [{"role": "user", "content": text}], "max_tokens": 1}, score, request_id=question.small.key,
            question=text, kind=AnswerKind.OPEN,
        )  # fmt: skip
        seconds = round(time.monotonic() - began, 3)
        cached = max((_common(prompt, other) for other in prompts), default=0) // CPU_BLOCK_SIZE * CPU_BLOCK_SIZE
        prompts.append(prompt)
        asks.append(Ask(tokens=len(prompt), cached=cached, scores=_scores(way, logprobs, shown), seconds=seconds))
    return Judgement(key=question.small.key, way=way, asks=tuple(asks))


def _texts(question: Disagreement, way: str) -> Iterator[tuple[str, Sequence[int]]]:
    """Yield each prompt with the places of the candidates that it shows, in their order."""
    asked = question.small.question
    if way == POINTWISE:
        for place, draft in enumerate(question.drafts):
            yield f"Question: {asked}\n\nProposed answer: {draft.text}\n\n{QUESTION}", [place]
        return
    for shown in (question.order, question.order[::-1]):
        told = [question.drafts[place].answer if way == ANSWERS else question.drafts[place].text for place in shown]
        gap = "\n" if way == ANSWERS else "\n\n"
        options = gap.join(f" ({letter}) {text}" for letter, text in zip(LETTERS, told, strict=False))
        letters = " or ".join(filter(None, (", ".join(LETTERS[: len(shown) - 1]), LETTERS[len(shown) - 1])))
        yield (
            f"Question: {asked}\n\nProposed answers:\n{options}\n\nWhich proposed answer is right? Answer with {letters}.",
            shown,
        )


def _scores(way: str, logprobs: Sequence[float], shown: Sequence[int]) -> tuple[float, ...]:
    """Return the scores of `Ask` from the log-probabilities of the letters."""
    if not logprobs:
        return ()
    if way == POINTWISE:
        return (round(logprobs[0] - logprobs[1], 4),)
    by_place = dict(zip(shown, logprobs, strict=True))
    return tuple(round(by_place[place], 4) for place in range(len(shown)))


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the number of tokens that both begin with."""
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


if __name__ == "__main__":
    main()
