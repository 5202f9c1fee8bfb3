"""Scores with a LoRA adapter that was trained as a verifier: the probability that it answers yes."""

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from strategies.core.errors import VerifierFailed
from strategies.core.parameters import Params
from strategies.core.ports import Model
from strategies.core.values import Candidate, Task, VerifierPrompt
from strategies.core.verifier import Verifier
from strategies.verifiers.yes_no import yes_probabilities

DEFAULT = VerifierPrompt("\nIs this answer correct (Yes or No)?", " Yes", " No")
"""For adapters without a verifier prompt of their own."""

_PLACEHOLDER = re.compile(r"\{(question|answer|step)\}")


class AdapterParams(Params):
    """`{"adapter": name}`."""

    adapter: Annotated[
        str, Field(min_length=1, max_length=129, description="name of the adapter, `name:sha8` to pin a version")
    ]

    @property
    def adapters(self) -> tuple[str, ...]:
        """The adapter is leased for the run."""
        return (self.adapter,)


class AdapterVerifier(Verifier):
    """P(yes) / (P(yes) + P(no)) as the next token after the adapter's verifier prompt."""

    name = "adapter"
    summary = "The word of a LoRA adapter on the answer (ORM) or on each step (PRM): P(Yes), asked as it was taught."
    Params = AdapterParams

    @classmethod
    def num_calls(cls, num_candidates: int) -> int:
        """One call for each candidate."""
        return num_candidates

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:
        """Return P(yes) for each candidate. Raises `VerifierFailed` if yes and no begin with the same token."""
        adapter = self.params.adapter
        verifier = model.using(adapter)
        prompt = verifier.verifier_prompt or DEFAULT
        yes, no = task.encode(prompt.yes)[:1], task.encode(prompt.no)[:1]
        if yes == no or not yes or not no:
            raise VerifierFailed(f"{prompt.yes!r} and {prompt.no!r} begin with the same token: {adapter} cannot judge")
        return await yes_probabilities(
            verifier, candidates, lambda candidate: _prompt(task, candidate, prompt.template), yes[0], no[0]
        )


def _prompt(task: Task, candidate: Candidate, template: str) -> tuple[int, ...]:
    """Return the token ids of the verifier prompt. Candidates are inserted as text: placeholders in them are not replaced."""
    if "{answer}" not in template:
        return (*task.prefix_with(candidate), *task.encode(template))
    answer = task.judged(candidate)
    values = {"question": task.question, "answer": answer, "step": candidate.last_step or answer}
    return task.encode(_PLACEHOLDER.sub(lambda match: values[match[1]], template))
