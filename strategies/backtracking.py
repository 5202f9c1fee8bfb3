"""Writes one answer, or some that vote, checks every line as it is written, and goes on behind the right result or the last true line."""

from typing import Annotated, Literal

from pydantic import Field

from strategies.checking.chain_vote import vote
from strategies.checking.chains import Writer
from strategies.core.parameters import Params
from strategies.core.ports import Emit, Model
from strategies.core.results import Result
from strategies.core.strategy import Forecast, Strategy, check_choices, ended
from strategies.core.values import StopReason, Task


class BacktrackingParams(Params):
    """Parameters of `backtracking`."""

    n: Annotated[int, Field(ge=1, le=256, description="answers that are written so, all at once; they vote")] = 1
    attempts: Annotated[int, Field(ge=1, le=64, description="times that each may begin or go on, the first included")] = 3
    first: Annotated[
        Literal["greedy", "sample"],
        Field(description="`greedy`: the first of them begins with the most likely answer; `sample`: as the others"),
    ] = "greedy"


class Backtracking(Strategy[BacktrackingParams]):
    """See the module, and `strategies.checking.chains`."""

    name = "backtracking"
    summary = "Checks every line as it is written; puts wrong results right, or goes back to before the line."
    Params = BacktrackingParams

    def width(self, num_choices: int) -> int:
        """All chains."""
        return max(self.params.n, num_choices)

    def check(self, task: Task) -> None:
        """Refuse more choices than chains."""
        check_choices(self.name, task, self.params.n, "n")

    def forecast(self, task: Task, answer_tokens: int) -> Forecast:  # noqa: ARG002 - as all strategies
        """Every attempt but the first begins somewhere in the middle."""
        n, attempts = self.params.n, self.params.attempts
        return Forecast(n * attempts, n * (attempts + 1) * answer_tokens // 2, attempts)

    async def __call__(self, task: Task, model: Model, emit: Emit) -> Result:
        """Write each until all of its lines are true, or its attempts are used up; then vote."""
        first = 0.0 if self.params.first == "greedy" else None
        writer = Writer(task, model, emit, most=self.params.n, first=first)
        await writer.write(self.params.n, self.params.attempts)
        return (await vote(task, writer, self.context.equivalence)).result(writer, ended(model, StopReason.COMPLETED))
