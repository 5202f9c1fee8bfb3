"""How far from uniform the model's predictions were."""

import math
from collections.abc import Sequence

from strategies.core.ports import Model
from strategies.core.values import Candidate, Task, TokenLogprob
from strategies.core.verifier import Verifier

TOP_K = 20


class SelfCertainty(Verifier):
    """Self-certainty (Kang et al. 2025): the mean over tokens of KL(uniform || p) = -(1/V) sum_j log(V p_j).

    An approximation: of the vocabulary only the 20 most probable tokens are known, and the probability that is left is taken as
    spread evenly over the others. This flattens the tail, so the value is a lower bound; only the order counts.
    Mapped to [0, 1] by 1 - exp(-x), which keeps the order.
    """

    name = "self_certainty"
    summary = "Mean distance of the predictions from uniform, from the 20 most probable tokens."
    num_logprobs = TOP_K

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:  # noqa: ARG002
        """In [0, 1]; 0 for a candidate without tokens."""
        return [1 - math.exp(-self._certainty(candidate.logprobs[candidate.step_start :])) for candidate in candidates]

    def _certainty(self, entries: Sequence[TokenLogprob]) -> float:
        if not entries:
            return 0.0
        return max(sum(self._divergence([logprob for _, logprob in entry.top]) for entry in entries) / len(entries), 0.0)

    def _divergence(self, top: Sequence[float]) -> float:
        """KL(uniform || p) of one prediction, the tail taken as flat."""
        size = self.context.vocab_size
        num_others = max(size - len(top), 1)
        left = max(1.0 - sum(math.exp(logprob) for logprob in top), 1e-9)
        known = sum(math.log(size) + max(logprob, -100.0) for logprob in top)
        return -(known + num_others * math.log(size * left / num_others)) / size
