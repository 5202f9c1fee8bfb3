"""Whether the model itself takes an answer for true."""

from collections.abc import Sequence

from strategies.core.ports import Model
from strategies.core.values import Candidate, Task
from strategies.core.verifier import Verifier
from strategies.verifiers.yes_no import ask

QUESTION = "Is the proposed answer true or false?\n (A) True\n (B) False\nAnswer with A or B."


class PTrue(Verifier):
    """P(True) (Kadavath et al. 2022): asked in the next turn whether its answer is (A) true or (B) false, P(A) / (P(A) + P(B)).

    Costs the prefill of the question, since the answer is in the cache, and one token.
    """

    name = "p_true"
    summary = "The model's own word: the probability of A, asked whether its answer is (A) true or (B) false."

    @classmethod
    def num_calls(cls, num_candidates: int) -> int:
        """One call for each candidate."""
        return num_candidates

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:
        """In [0, 1]; all candidates are judged together."""
        question = task.follow_up(QUESTION)
        yes, no = task.encode("A")[0], task.encode("B")[0]
        return await ask(model, candidates, lambda candidate: (*task.prefix_with(candidate), *question), yes, no)
