"""Writes one answer, or several that vote, and checks every line as it is written (`strategies.checking.chains`)."""

from typing import Annotated

from pydantic import Field

from strategies.checking.chain_vote import vote_of_chains
from strategies.checking.chains import Writer
from strategies.core.checks import check_choices
from strategies.core.parameters import FirstAnswer, NumAnswers, NumAttempts, Params
from strategies.core.ports import Emit, Model
from strategies.core.results import Result
from strategies.core.strategy import Forecast, Strategy, ended
from strategies.core.values import StopReason, Task


class BacktrackingParams(Params):
    """Parameters of `backtracking`."""

    n: Annotated[NumAnswers, Field(description="answers that are written, all at once; they vote")] = 1
    attempts: NumAttempts = 3
    first: FirstAnswer = "greedy"


class Backtracking(Strategy[BacktrackingParams]):
    """Writes n answers, and continues each behind the corrected result or the last true line."""

    name = "backtracking"
    summary = "Checks every line as it is written; puts wrong results right, or goes back to before the line."
    comparison = "ahead on answers that calculate, at a fifth of the FLOPs"
    Params = BacktrackingParams

    def width(self, num_choices: int) -> int:
        """Return n: all answers are written at once."""
        return max(self.params.n, num_choices)

    def check(self, task: Task) -> None:
        """Refuse more choices than answers."""
        check_choices(self.name, task, self.params.n, "n")

    def forecast(self, task: Task, answer_tokens: int) -> Forecast:  # noqa: ARG002 - the signature of all strategies
        """Return the cost of all attempts; every attempt but the first begins in the middle of an answer on average."""
        n, attempts = self.params.n, self.params.attempts
        return Forecast(n * attempts, n * (attempts + 1) * answer_tokens // 2, attempts)

    async def __call__(self, task: Task, model: Model, emit: Emit) -> Result:
        """Write each answer until all of its lines are true or its attempts are used up, then vote."""
        first = 0.0 if self.params.first == "greedy" else None
        writer = Writer(task, model, emit, max_chains=self.params.n, first_temperature=first)
        await writer.write(self.params.n, self.params.attempts)
        vote = await vote_of_chains(task, writer, self.context.equivalence)
        return vote.result(writer, ended(model, StopReason.COMPLETED))
