"""What searches over the steps of an answer have in common: parameters, the tree and the scorer."""

from abc import abstractmethod
from typing import Annotated, TypeVar

from pydantic import Field

from strategies.core.errors import UnsupportedTask
from strategies.core.parameters import Params, Select
from strategies.core.ports import Emit, Model
from strategies.core.results import Result
from strategies.core.strategy import Strategy
from strategies.core.values import AnswerKind, Step, Task
from strategies.search.scorer import Scorer
from strategies.search.tree import Steps, Tree
from strategies.verifiers import LIKELIHOOD, StepVerifier


class StepParams(Params):
    """Parameters of all searches over steps."""

    verifier: Annotated[StepVerifier, Field(description="what scores steps and answers", validate_default=True)] = "likelihood"  # type: ignore[assignment] # validated
    separator: Annotated[str, Field(min_length=1, max_length=32, description="the text that ends a step")] = "\n\n"
    step_tokens: Annotated[int, Field(ge=1, le=4096, description="the most tokens of a step")] = 32
    depth: Annotated[int, Field(ge=1, le=256, description="the most steps of an answer; the last one runs to its end")] = 32
    first_temperature: Annotated[
        float | None,
        Field(gt=0, le=2, description="of the first step alone, so that first steps differ; null: the request's"),
    ] = None
    tries: Annotated[
        int | None,
        Field(
            ge=1,
            le=64,
            description="next steps of a state that are drawn before the others: where these are equal and none scores below 0.5, "
            "no others are drawn; null: all at once",
        ),
    ] = None
    align: Annotated[
        int | None,
        Field(
            ge=1,
            le=256,
            description="tokens of a block of the engine's prefix cache (32 on CPU): the most tokens of a step are lowered so that "
            "it ends where a block is full; null: steps end anywhere",
        ),
    ] = None


P = TypeVar("P", bound=StepParams)


class Stepwise(Strategy[P]):
    """A search over the steps of an answer."""

    is_stepwise = True

    def check(self, task: Task) -> None:
        """Refuse a verifier that cannot score answers to the task, or whose parameters cannot be honoured."""
        choice = self.params.verifier or LIKELIHOOD
        choice.verifier.check(task)
        choice.build(self.context)

    async def __call__(self, task: Task, model: Model, emit: Emit) -> Result:
        """Search; whatever ends the search, the best answer so far is returned."""
        scorer = Scorer((self.params.verifier or LIKELIHOOD).build(self.context), task, model)
        params = self.params
        steps = Steps(
            Step((params.separator,), params.step_tokens), params.depth, params.first_temperature, params.tries, params.align
        )
        return await self.search(Tree(task, model, emit, scorer, steps))

    @abstractmethod
    async def search(self, tree: Tree) -> Result:
        """Grow the tree and choose."""

    def num_steps(self, answer_tokens: int) -> int:
        """Return the number of steps of an answer of that length, if every step has as many tokens as it may."""
        return min(-(-answer_tokens // self.params.step_tokens), self.params.depth)


def default_select(task: Task) -> Select:
    """Return `vote` where answers can be compared, else `score`."""
    return "score" if task.kind is AnswerKind.OPEN else "vote"


def check_split(name: str, whole: int, part: int) -> None:
    """Raise `UnsupportedTask` unless `whole` is a multiple of `part`."""
    if whole % part:
        message = f"{name}: n must be a multiple of expand, but {whole} is none of {part}"
        raise UnsupportedTask(message, parameter="expand")
