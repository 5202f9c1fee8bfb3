"""n answers at once; a verifier picks."""

from typing import Annotated, Any, Literal

from pydantic import Field

from strategies.ballot import Ballot, count
from strategies.base import AnswerKind, Candidate, Emit, Model, Progress, Result, Scored, Task, UnsupportedTask, Verifier
from strategies.strategy import Params, Strategy, ended
from strategies.verifiers import VERIFIERS, AdapterChoice, AdapterVerifier


class BestOfNParams(Params):
    """Parameters of `best_of_n`."""

    n: Annotated[int, Field(ge=1, le=256, description="candidates to draw, all at once")] = 8
    verifier: Annotated[
        Literal[*VERIFIERS.names()] | AdapterChoice | None,  # type: ignore[valid-type]
        Field(
            description='who picks, or `{"adapter": name}`; by default `majority` where answers can be compared, else `likelihood`'
        ),
    ] = None

    @property
    def adapters(self) -> tuple[str, ...]:
        """The one that judges."""
        return (self.verifier.adapter,) if isinstance(self.verifier, AdapterChoice) else ()


class BestOfN(Strategy[BestOfNParams]):
    """See the module."""

    name = "best_of_n"
    summary = "Draws n candidates at once and lets a verifier pick the best."
    Params = BestOfNParams

    @classmethod
    def check(cls, params: Any, task: Task) -> None:
        """Refuse a majority among answers that cannot be compared, and more choices than candidates."""
        if task.num_choices > params.n:
            message = f"best_of_n cannot return {task.num_choices} of {params.n} candidates"
            raise UnsupportedTask(message, parameter="n")
        if params.verifier == "majority" and task.kind is AnswerKind.OPEN:
            message = 'majority needs answers that can be compared: set "answer" to their kind, or choose another verifier'
            raise UnsupportedTask(message, parameter="verifier")

    async def __call__(self, task: Task, model: Model, emit: Emit) -> Result:
        """Draw all, score all, return the best distinct ones in order."""
        verifier = self._verifier(task)
        wanted = [number for number in (verifier.num_logprobs, task.num_logprobs) if number is not None]
        drawn: list[Candidate] = []
        async with model.sample(task.prefix, self.params.n, num_logprobs=max(wanted, default=None)) as samples:
            async for candidate in samples:
                drawn.append(candidate)
                emit(Progress(f"Candidate {len(drawn)} of {self.params.n}: {opening_words(task.read(candidate))}"))
        drawn.sort(key=lambda candidate: candidate.index)
        ballot = await count(task, drawn, self.tools.equivalence)
        scores = await verifier.score(task, drawn, model) if drawn else []
        scored = tuple(Scored(c, ballot.answers[c.index], score) for c, score in zip(drawn, scores, strict=True))
        return Result(_best(scored, task.num_choices, ballot), scored, ended(model))

    def _verifier(self, task: Task) -> Verifier:
        if isinstance(self.params.verifier, AdapterChoice):
            return AdapterVerifier(self.params.verifier.adapter)
        return VERIFIERS[self.params.verifier or ("likelihood" if task.kind is AnswerKind.OPEN else "majority")](self.tools)


def _best(scored: tuple[Scored, ...], num_choices: int, ballot: Ballot) -> tuple[Scored, ...]:
    """The best distinct candidates in order; a truncated one only after all that are whole."""
    has_votes = bool(ballot.groups)

    def rank(one: Scored) -> tuple[bool, bool, float, int]:
        return one.candidate.is_complete, has_votes and one.answer is not None, one.score or 0.0, -one.candidate.index

    distinct: dict[str, Scored] = {}
    for one in sorted(scored, key=rank, reverse=True):
        distinct.setdefault(one.answer if one.answer is not None else one.candidate.text, one)
    return tuple(distinct.values())[:num_choices]


def opening_words(text: str, length: int = 60) -> str:
    """The beginning of a text, for a line of progress."""
    text = " ".join(text[: 4 * length].split())
    return text if len(text) <= length else text[: length - 1] + "…"
