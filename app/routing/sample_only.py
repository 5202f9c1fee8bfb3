"""What the models of a calibration have in common that only draw."""

from collections.abc import Sequence
from typing import Self

from strategies.core.ports import OtherModel
from strategies.core.values import StopReason, VerifierPrompt


class SampleOnly:
    """`strategies.core.ports.Model` without a budget, and without what the code that draws with it does not call."""

    verifier_prompt: VerifierPrompt | None = None
    deadline: float | None = None
    tokens_left: int | None = None
    stopped: StopReason | None = None

    async def score_options(self, prefix: Sequence[int], options: Sequence[int]) -> list[float]:
        """Raise `NotImplementedError`."""
        raise NotImplementedError

    def spend(self, tokens: int, flops: int) -> bool:
        """Raise `NotImplementedError`."""
        raise NotImplementedError

    def using(self, adapter: str) -> Self:
        """Raise `NotImplementedError`."""
        raise NotImplementedError

    def asking(self, model: str) -> OtherModel:
        """Raise `NotImplementedError`."""
        raise NotImplementedError
