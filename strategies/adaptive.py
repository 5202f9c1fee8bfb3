"""Answers once, and draws more answers that vote with it as long as a stopping rule finds that more are worth their cost.

The first answer is the most likely one, at temperature 0: what `direct` would answer at that temperature, except for lines that are false
(`strategies.checking.chains`). The others are checked in the same way. The rule comes with the plan: a calibrated policy weighs the
expected gain of the next wave against its FLOPs. Without one the strategy goes on until the vote is settled.
"""

from typing import Annotated

from pydantic import Field

from strategies.checking.chain_vote import vote_of_chains
from strategies.checking.chains import Writer
from strategies.checking.evidence import evidence
from strategies.core.checks import check_choices, check_comparable
from strategies.core.parameters import EquationCheck, FirstAnswer, NumAnswers, NumAttempts, Params
from strategies.core.ports import Emit, Model
from strategies.core.results import Progress, Result
from strategies.core.stopping_rule import StoppingRule
from strategies.core.strategy import Forecast, Strategy, ended
from strategies.core.values import StopReason, Task
from strategies.voting.stopping import BetaRule


class AdaptiveParams(Params):
    """Parameters of `adaptive`."""

    n: Annotated[NumAnswers, Field(description="the most answers to draw")] = 16
    attempts: NumAttempts = 3
    first: FirstAnswer = "greedy"
    check: Annotated[
        EquationCheck, Field(description="what makes a line false: `equations`: an equation in it that does not hold")
    ] = "equations"


class Adaptive(Strategy[AdaptiveParams]):
    """Draws growing waves of answers until its stopping rule ends it."""

    name = "adaptive"
    summary = "Answers once, then draws more that vote while they are expected to be worth their FLOPs."
    comparison = "ahead, with a calibrated policy"
    Params = AdaptiveParams

    def width(self, num_choices: int) -> int:
        """Return the size of the last wave, which is at most as large as all before it together."""
        return max((self.params.n + 1) // 2, num_choices)

    def check(self, task: Task) -> None:
        """Refuse answers that cannot be compared, and more choices than candidates."""
        check_choices(self.name, task, self.params.n, "n")
        check_comparable(self.name, task)

    def forecast(self, task: Task, answer_tokens: int) -> Forecast:  # noqa: ARG002 - the signature of all strategies
        """Return the cost of n answers without a false line, as if no wave were the last one."""
        n = self.params.n
        return Forecast(n, n * answer_tokens, n.bit_length())

    async def __call__(self, task: Task, model: Model, emit: Emit) -> Result:
        """Write a wave, count the votes, ask the rule, and so on."""
        params = self.params
        rule: StoppingRule = self.context.rule or BetaRule()
        writer = Writer(
            task,
            model,
            emit,
            max_chains=params.n,
            first_temperature=0.0 if params.first == "greedy" else None,
            has_checks=params.check == "equations",
        )
        num_answers, stop = max(task.num_choices, 1), StopReason.COMPLETED
        while True:
            num_before = writer.num_attempts
            await writer.write(num_answers, params.attempts)
            vote = await vote_of_chains(task, writer, self.context.equivalence)
            if model.stopped is not None or writer.num_attempts == num_before:
                break  # the budget is spent, or the context has no room for another attempt
            emit(Progress(vote.line(), best=vote.leader))
            decision = rule.decide(evidence(writer, vote))
            next_num = min(decision.answers or 0, params.n)
            if next_num <= num_answers:
                stop = decision.reason
                break
            num_answers = next_num
        return vote.result(writer, ended(model, stop))
