"""One answer, as the model gives it; several independent ones when the caller wants several."""

from strategies.core.parameters import Params
from strategies.core.ports import Emit, Model
from strategies.core.results import Result
from strategies.core.strategy import Forecast, Strategy, ended
from strategies.core.values import Draw, ScoredCandidate, Task


class Direct(Strategy[Params]):
    """Draws one sample for each choice and returns all of them."""

    name = "direct"
    summary = "One sample, streamed token by token; `n` independent ones on request."
    comparison = "one answer, which a vote must beat"
    temperature = None  # samples are not compared, so the model's own default holds

    def width(self, num_choices: int) -> int:
        """Return the number of choices: all are drawn at once."""
        return num_choices

    def forecast(self, task: Task, answer_tokens: int) -> Forecast:
        """Return the cost of one answer for each choice."""
        return Forecast(task.num_choices, task.num_choices * answer_tokens)

    async def __call__(self, task: Task, model: Model, emit: Emit) -> Result:
        """Draw the answers and return all of them, by index."""
        draw = Draw(task.prefix, task.num_choices, num_logprobs=task.num_logprobs, on_delta=emit)
        async with model.sample(draw) as samples:
            drawn = [candidate async for candidate in samples]
        scored = tuple(ScoredCandidate(candidate) for candidate in sorted(drawn, key=lambda one: one.index))
        return Result(scored, scored, ended(model))
