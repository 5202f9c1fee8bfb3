"""Scores a candidate by how far the model's predictions were from uniform."""

import math
from collections.abc import Sequence

from strategies.core.ports import Model
from strategies.core.values import Candidate, Task, TokenLogprob
from strategies.core.verifier import Verifier

TOP_K = 20
"""Alternatives per token that are asked for: as many as vLLM returns by default at most."""


class SelfCertainty(Verifier):
    """Self-certainty (Kang et al. 2025, arXiv 2502.18581): the mean over tokens of KL(uniform || p) = -(1/V) sum_j log(V p_j).

    This is an approximation. Only the 20 most probable tokens of the vocabulary are known, and the remaining probability is spread evenly
    over the others. That flattens the tail, so the value is a lower bound; only the order of candidates counts. The value x is mapped to
    [0, 1] by 1 - exp(-x), which keeps the order.
    """

    name = "self_certainty"
    summary = "Mean distance of the predictions from uniform, from the 20 most probable tokens."
    num_logprobs = TOP_K

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:  # noqa: ARG002
        """Return one score in [0, 1] each; 0 for a candidate without tokens."""
        return [1 - math.exp(-self._certainty(candidate.logprobs[candidate.step_start :])) for candidate in candidates]

    def _certainty(self, tokens: Sequence[TokenLogprob]) -> float:
        entries = [entry for entry in tokens if not entry.is_inserted]
        if not entries:
            return 0.0
        return max(sum(self._divergence([logprob for _, logprob in entry.top]) for entry in entries) / len(entries), 0.0)

    def _divergence(self, top: Sequence[float]) -> float:
        """Return KL(uniform || p) of one prediction, with a flat tail. `top` holds log-probabilities."""
        size = self.context.vocab_size
        num_others = max(size - len(top), 1)
        left = max(1.0 - sum(math.exp(logprob) for logprob in top), 1e-9)
        known = sum(math.log(size) + max(logprob, -100.0) for logprob in top)
        return -(known + num_others * math.log(size * left / num_others)) / size
