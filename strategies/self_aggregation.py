"""Recursive self-aggregation (RSA, Venkatraman et al. 2025, arXiv 2509.26626): a population of answers that is written anew round by round.

Each new answer is written with some answers of the last population in view, which are drawn at random. Right parts of several wrong answers
may come together in one. The last population votes. The authors have 16 answers, 4 in view and 10 rounds, the first one included.
They always write all rounds; here a population that agrees is the last one, by the rule of votes (`strategies.voting.stopping`).

Answers in view are turns of a conversation without their thinking (`strategies.core.turns`). `sequential_revision` is the case in which
an answer sees those of its own position alone.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from strategies.core.checks import check_choices
from strategies.core.parameters import NumAnswers
from strategies.core.strategy import NO_WIN
from strategies.core.turns import Turns
from strategies.core.values import AnswerKind, Candidate, Task
from strategies.search.rounds import InRounds, RoundParams, Run, View
from strategies.voting.count import count_votes
from strategies.voting.stopping import THRESHOLD, leader_posterior


class SelfAggregationParams(RoundParams):
    """Parameters of `self_aggregation`."""

    n: Annotated[NumAnswers, Field(description="the population: answers of each round, all at once")] = 4
    in_view: Annotated[
        int, Field(ge=1, le=16, description="answers of the last population that each new answer is written with, at most")
    ] = 2
    rounds: Annotated[int, Field(ge=1, le=32, description="populations, the first one from the prompt alone")] = 3
    confidence: Annotated[
        float,
        Field(
            gt=0.5,
            le=1,
            description="posterior that the leading answer of a population stays the leader, at which no further one is written; "
            "1: all rounds are",
        ),
    ] = THRESHOLD
    prompt: Annotated[
        str, Field(min_length=1, max_length=4000, description="what asks for a new answer, behind those in view")
    ] = (
        "The answers so far may have mistakes. Compare them, take what is right, put right what is wrong, "
        "and write one better answer to the question."
    )


class SelfAggregation(InRounds[SelfAggregationParams]):
    """Writes a population of answers anew in each round, and chooses from the last one."""

    name = "self_aggregation"
    summary = "Writes a population of answers, then each anew with some of the last population in view; the last one votes."
    comparison = NO_WIN
    temperature = 1.0  # the authors'
    Params = SelfAggregationParams

    @property
    def size(self) -> int:
        """The population."""
        return self.params.n

    @property
    def num_rounds(self) -> int:
        """The number of populations."""
        return self.params.rounds

    @property
    def num_finalists(self) -> int:
        """One population."""
        return self.params.n

    def check(self, task: Task) -> None:
        """Refuse more choices than answers of one population, too."""
        check_choices(self.name, task, self.params.n, "n")
        super().check(task)

    def views(self, run: Run) -> dict[int, View]:
        """Draw for each new answer what it sees: whole answers of the last population. Without any, nothing more is written."""
        task, whole = run.task, [one for one in run.rounds[-1] if one.is_complete]
        if not whole:
            return {}
        turns, request = Turns(task), (task.next_turn or task.follow_up)(self.params.prompt)

        def conversation(answers: Sequence[Candidate]) -> tuple[int, ...]:
            return (*turns.of(answers), *request)

        drawn = [run.chance.sample(whole, min(self.params.in_view, len(whole))) for _ in range(run.size)]
        # where the context has no room for any, a new answer is written from the prompt alone
        return {position: run.view(seen, conversation) or View(task.prefix) for position, seen in enumerate(drawn)}

    async def is_settled(self, run: Run) -> bool:
        """Return whether the whole answers of the last population agree so far that another one would probably say the same."""
        if run.task.kind is AnswerKind.OPEN or self.params.confidence >= 1:
            return False
        whole = [one for one in run.rounds[-1] if one.is_complete]
        votes = await count_votes(run.task, whole, self.context.equivalence)
        return leader_posterior(*votes.counts()) >= self.params.confidence

    def finalists(self, run: Run) -> list[Candidate]:
        """Return the newest whole answers, as many as a population has: the last one, and where it was cut the ones before too."""
        whole = [one for one in run.answers if one.is_complete]
        return whole[-run.size :] or run.answers
