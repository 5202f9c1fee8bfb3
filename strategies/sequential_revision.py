"""Draft, then revise with the previous attempts in view, in several chains side by side (Snell et al. 2024, arXiv 2408.03314).

Each attempt is a whole answer, in the turn after a request to reconsider. Its prefix is the conversation so far, which is in the cache.
All attempts of all chains are candidates. Snell et al. choose among all of them too, since a revision may spoil a right answer.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from strategies.core.checks import check_choices
from strategies.core.strategy import NO_WIN
from strategies.core.values import Candidate, Task
from strategies.search.rounds import InRounds, RoundParams, Run, View


class SequentialRevisionParams(RoundParams):
    """Parameters of `sequential_revision`."""

    chains: Annotated[int, Field(ge=1, le=64, description="chains side by side")] = 2
    attempts: Annotated[int, Field(ge=1, le=32, description="answers of each chain, the draft being the first")] = 4
    in_view: Annotated[int, Field(ge=1, le=16, description="previous attempts that a revision sees, the latest ones")] = 4
    prompt: Annotated[str, Field(min_length=1, max_length=4000, description="what asks for a revision")] = (
        "There may be a mistake in that answer. Check it, and answer the question again."
    )


class SequentialRevision(InRounds[SequentialRevisionParams]):
    """Writes drafts and revises them, and returns the best of all attempts."""

    name = "sequential_revision"
    summary = "Answers, then revises with the previous attempts in view, in several chains side by side."
    comparison = NO_WIN
    Params = SequentialRevisionParams
    round_name = "Attempt"

    @property
    def size(self) -> int:
        """The number of chains: each draws one attempt at a time."""
        return self.params.chains

    @property
    def num_rounds(self) -> int:
        """The number of attempts of each chain."""
        return self.params.attempts

    def check(self, task: Task) -> None:
        """Refuse more choices than attempts, too."""
        check_choices(self.name, task, self.params.chains * self.params.attempts, "attempts")
        super().check(task)

    def views(self, run: Run) -> dict[int, View]:
        """Return the latest attempts of each chain whose last one is whole: behind one that was cut nothing can be asked."""
        request = (run.task.next_turn or run.task.follow_up)(self.params.prompt)

        def conversation(attempts: Sequence[Candidate]) -> tuple[int, ...]:
            prefix = run.task.prefix
            for attempt in attempts:
                prefix = (*prefix, *run.task.prefix_with(attempt)[len(run.task.prefix) :], *request)
            return prefix

        views: dict[int, View] = {}
        for latest in run.rounds[-1]:
            if latest.is_complete:
                position = latest.index % run.size
                chain = [one for one in run.answers if one.index % run.size == position][-self.params.in_view :]
                views[position] = run.view(chain, conversation) or View(conversation([latest]), (latest,))
        return views
