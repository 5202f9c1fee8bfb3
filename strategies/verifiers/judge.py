"""Scores with another model of the server: how probable it finds it that the answer is true."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from strategies.core.errors import VerifierFailed
from strategies.core.parameters import Params
from strategies.core.ports import Model
from strategies.core.values import Candidate, Task
from strategies.core.verifier import Verifier
from strategies.verifiers.p_true import QUESTION
from strategies.verifiers.yes_no import yes_probabilities


class JudgeParams(Params):
    """`{"judge": name}`."""

    judge: Annotated[str, Field(min_length=1, max_length=257, description="name of a model or adapter of this server")]

    @property
    def models(self) -> tuple[str, ...]:
        """The judge takes part in the run."""
        return (self.judge,)


class Judge(Verifier):
    """P(True) of Kadavath et al. 2022 (arXiv 2207.05221), asked of a model that has not written the answer.

    The judge reads the question and the answer as the text of one user's turn, so it may have another tokenizer and another chat template
    than the model that answers. Its score is P(A) / (P(A) + P(B)).
    """

    name = "judge"
    summary = (
        "The word of another model of the server: the probability of A, asked whether the answer is (A) true or (B) false."
    )
    Params = JudgeParams

    @classmethod
    def num_calls(cls, num_candidates: int) -> int:
        """One call for each candidate."""
        return num_candidates

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:
        """Return P(True) for each candidate, in [0, 1]; all are sent together. Raises `VerifierFailed`."""
        judge = model.asking(self.params.judge)
        texts = [f"Question: {task.question}\n\nProposed answer: {task.judged(one)}\n\n{QUESTION}" for one in candidates]
        prompts = [await judge.prompt_of(text) for text in texts]
        yes, no = judge.encode("A")[:1], judge.encode("B")[:1]
        if yes == no or not yes or not no:
            raise VerifierFailed(f"A and B begin with the same token: {self.params.judge} cannot judge")
        return await yes_probabilities(judge, prompts, lambda prompt: prompt, yes[0], no[0])
