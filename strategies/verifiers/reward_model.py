"""A reward model that the operator runs elsewhere; who asks chooses it by name, never by address."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from strategies.core.errors import UnsupportedTask
from strategies.core.parameters import Params
from strategies.core.ports import Model
from strategies.core.values import Candidate, Task
from strategies.core.verifier import StrategyContext, Verifier


class RewardModelParams(Params):
    """`{"reward_model": name}`."""

    reward_model: Annotated[str, Field(min_length=1, max_length=64, description="as in `PONDER_REWARD_MODELS`")]


class RewardModelVerifier(Verifier):
    """Stands for the clients of all reward models: `build` returns the one that the service has made."""

    name = "reward_model"
    summary = "A reward model behind HTTP that the operator has configured; falls back on likelihood, and says so."
    Params = RewardModelParams

    @classmethod
    def build(cls, params: RewardModelParams, context: StrategyContext) -> Verifier:
        """Return the client of that name. Raises `UnsupportedTask` if the operator has configured none."""
        if params.reward_model not in context.reward_models:
            known = ", ".join(sorted(context.reward_models)) or "none"
            message = f"this server knows no reward model named {params.reward_model}; there are: {known}"
            raise UnsupportedTask(message, parameter="verifier")
        return context.reward_models[params.reward_model]

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:
        """Is never called: the client scores."""
        raise NotImplementedError
