"""A reward model that the operator runs elsewhere; who asks chooses it by name, never by address."""

from typing import Annotated, ClassVar

from pydantic import Field

from strategies.core.errors import UnsupportedTask
from strategies.core.ports import Verifier
from strategies.core.strategy import Params, StrategyContext


class RewardModelChoice(Params):
    """`{"reward_model": name}` where a verifier is to be named."""

    name: ClassVar[str] = "reward_model"
    summary: ClassVar[str] = (
        "A reward model behind HTTP that the operator has configured; falls back on likelihood, and says so."
    )

    reward_model: Annotated[str, Field(min_length=1, max_length=64, description="as in `PONDER_REWARD_MODELS`")]

    def build(self, context: StrategyContext) -> Verifier:
        """The client that `app` made for it."""
        if self.reward_model not in context.reward_models:
            known = ", ".join(sorted(context.reward_models)) or "none"
            message = f"this server knows no reward model named {self.reward_model}; there are: {known}"
            raise UnsupportedTask(message, parameter="verifier")
        return context.reward_models[self.reward_model]
