"""A strategy of one's own: two answers, and a third only where they disagree.

A strategy is a class with a name, typed parameters and one coroutine. It asks the metered model for samples, so that budgets and
accounts hold without a line of its own. `examples/plugin` has one as a package, for `ponder serve`.

Run:     python examples/own_strategy.py
Prints:  the answer, and how many candidates it took
"""

from collections import Counter

import ponder


class TieBreak(ponder.Strategy[ponder.Params]):
    """Asks twice, and once more where the answers differ."""

    name = "tie_break"
    summary = "Two answers; a third breaks a tie."

    def width(self, num_choices: int) -> int:
        """Two branches run at the same time."""
        return 2

    def forecast(self, task: ponder.Task, answer_tokens: int) -> ponder.Forecast:
        """At most three answers, in two rounds."""
        return ponder.Forecast(3, 3 * answer_tokens, 2)

    async def __call__(self, task: ponder.Task, model: ponder.Model, emit: ponder.Emit) -> ponder.Result:
        """Return the answer with most votes, the first of equals."""
        drawn: list[ponder.ScoredCandidate] = []
        for size in (2, 1):
            async with model.sample(ponder.Draw(task.prefix, size, first_index=len(drawn))) as samples:
                wave = [candidate async for candidate in ponder.in_order(samples, len(drawn))]
            drawn += [ponder.ScoredCandidate(one, task.read(one).split("####")[-1].strip()) for one in wave]
            votes = Counter(one.answer for one in drawn).most_common()
            emit(ponder.Progress(f"{len(drawn)} answers: {votes}"))
            if len(votes) == 1 or model.stopped is not None:
                break
        chosen = [one for one in drawn if one.answer == votes[0][0]][:1]  # nothing was drawn where a budget had no room
        return ponder.Result(tuple(chosen), tuple(drawn), ponder.ended(model))


def main() -> None:
    """Load the model with the strategy, and ask by it."""
    with ponder.Ponder("smollm2-135m", plugins=[TieBreak], kv_cache_gib=1) as model:
        answer = model.ask("Calculate 6 + 7 + 8.", model="reasoning", strategy="tie_break", max_tokens=64, seed=1)
        print(f"{answer.text!r} of {len(answer.candidates)} candidates, for {answer.tokens} tokens")


if __name__ == "__main__":  # vLLM starts processes that import this file
    main()
