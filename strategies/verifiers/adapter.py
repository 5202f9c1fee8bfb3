"""An adapter that was taught to judge: it is asked whether an answer is right, and its word is one token."""

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from strategies.core.errors import VerifierFailed
from strategies.core.parameters import Params
from strategies.core.ports import Model
from strategies.core.values import Candidate, Task, VerifierPrompt
from strategies.core.verifier import Verifier
from strategies.verifiers.yes_no import ask

DEFAULT = VerifierPrompt("\nIs this answer correct (Yes or No)?", " Yes", " No")
"""For adapters that do not say how they were taught."""

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
    """P(Yes) / (P(Yes) + P(No)) as the token after the inquiry, by the adapter of that name."""

    name = "adapter"
    summary = "The word of a LoRA adapter on the answer (ORM) or on each step (PRM): P(Yes), asked as it was taught."
    Params = AdapterParams

    @classmethod
    def num_calls(cls, num_candidates: int) -> int:
        """One call for each candidate."""
        return num_candidates

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:
        """In [0, 1]; all candidates are judged together."""
        adapter = self.params.adapter
        judge = model.using(adapter)
        inquiry = judge.inquiry or DEFAULT
        words = [task.encode(word)[:1] for word in (inquiry.yes, inquiry.no)]
        if words[0] == words[1] or not all(words):
            raise VerifierFailed(f"{inquiry.yes!r} and {inquiry.no!r} begin with the same token: {adapter} cannot judge")
        [[yes], [no]] = words
        return await ask(judge, candidates, lambda candidate: _prompt(task, candidate, inquiry.template), yes, no)


def _prompt(task: Task, candidate: Candidate, template: str) -> tuple[int, ...]:
    """What follows the answer, or a prompt of its own around question, answer and step. Text is put in, never interpreted."""
    if "{answer}" not in template:
        return (*task.prefix_with(candidate), *task.encode(template))
    parts = {"question": task.question, "answer": candidate.text, "step": candidate.last_step or candidate.text}
    return task.encode(_PLACEHOLDER.sub(lambda match: parts[match[1]], template))
