"""Scores with the served model itself: how probable it finds it that its answer is true."""

from collections.abc import Sequence

from strategies.core.ports import Model
from strategies.core.values import Candidate, Task
from strategies.core.verifier import Verifier
from strategies.verifiers.yes_no import yes_probabilities

QUESTION = "Is the proposed answer true or false?\n (A) True\n (B) False\nAnswer with A or B."


class PTrue(Verifier):
    """P(True) of Kadavath et al. 2022 (arXiv 2207.05221).

    The model is asked whether its answer is (A) true or (B) false, and the score is P(A) / (P(A) + P(B)).
    The question is the user's next turn. Question and one token are computed; the answer before them is in the prefix cache.
    """

    name = "p_true"
    summary = "The model's own word: the probability of A, asked whether its answer is (A) true or (B) false."

    @classmethod
    def num_calls(cls, num_candidates: int) -> int:
        """One call for each candidate."""
        return num_candidates

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:
        """Return P(True) for each candidate, in [0, 1]; all candidates are sent together."""
        question = task.follow_up(QUESTION)
        yes, no = task.encode("A")[0], task.encode("B")[0]
        return await yes_probabilities(model, candidates, lambda candidate: (*task.prefix_with(candidate), *question), yes, no)
