"""Answers once, and draws more answers that vote with it for as long as a rule finds that more are worth their price.

The first answer is the most likely one, at temperature 0: what `direct` would say, but for lines that are false
(`strategies.checking.chains`); the others are written so too. The rule comes with the plan: a policy that was calibrated weighs
what the next wave is expected to bring against its FLOPs; without one it goes on until the vote is settled.
"""

from typing import Annotated, Literal

from pydantic import Field

from strategies.checking.chain_vote import vote
from strategies.checking.chains import Writer
from strategies.checking.evidence import evidence
from strategies.core.errors import UnsupportedTask
from strategies.core.parameters import Params
from strategies.core.ports import Emit, Model
from strategies.core.results import Progress, Result
from strategies.core.stopping_rule import StoppingRule
from strategies.core.strategy import Forecast, Strategy, check_choices, ended
from strategies.core.values import AnswerKind, StopReason, Task
from strategies.voting.stopping import BetaRule


class AdaptiveParams(Params):
    """Parameters of `adaptive`."""

    n: Annotated[int, Field(ge=1, le=256, description="the most answers to draw")] = 16
    attempts: Annotated[
        int, Field(ge=1, le=64, description="the most times that each may begin or go on, the first included")
    ] = 3
    first: Annotated[
        Literal["greedy", "sample"],
        Field(description="`greedy`: the first answer is the most likely one; `sample`: one as any"),
    ] = "greedy"
    check: Annotated[
        Literal["none", "equations"],
        Field(description="what makes a line false: `equations`: one that does not hold"),
    ] = "equations"


class Adaptive(Strategy[AdaptiveParams]):
    """See the module."""

    name = "adaptive"
    summary = "Answers once, then draws more that vote while they are expected to be worth their FLOPs."
    Params = AdaptiveParams

    def width(self, num_choices: int) -> int:
        """Of the last wave, which is as large as all before it."""
        return max((self.params.n + 1) // 2, num_choices)

    def check(self, task: Task) -> None:
        """Refuse what cannot be voted on, and more choices than candidates."""
        check_choices(self.name, task, self.params.n, "n")
        if task.kind is AnswerKind.OPEN:
            message = 'adaptive needs answers that can be compared: set "answer" to their kind (math, choice, json, text)'
            raise UnsupportedTask(message, parameter="answer")

    def forecast(self, task: Task, answer_tokens: int) -> Forecast:  # noqa: ARG002 - as all strategies
        """All answers, were they worth it to the end, and no line of them false."""
        n = self.params.n
        return Forecast(n, n * answer_tokens, n.bit_length())

    async def __call__(self, task: Task, model: Model, emit: Emit) -> Result:
        """Write, look, ask the rule."""
        params = self.params
        rule: StoppingRule = self.context.rule or BetaRule()
        has_checks = params.check == "equations"
        writer = Writer(
            task, model, emit, most=params.n, first=0.0 if params.first == "greedy" else None, has_checks=has_checks
        )
        answers, stop = max(task.num_choices, 1), StopReason.COMPLETED
        while True:
            before = writer.num_attempts
            await writer.write(answers, params.attempts)
            seen = await vote(task, writer, self.context.equivalence)
            if model.stopped is not None or writer.num_attempts == before:
                break  # the budget is spent, or there was no room for anything
            emit(Progress(seen.line()))
            said = rule.next(evidence(writer, seen))
            wanted = min(said.answers or 0, params.n)
            if wanted <= answers:
                stop = said.reason
                break
            answers = wanted
        return seen.result(writer, ended(model, stop))
