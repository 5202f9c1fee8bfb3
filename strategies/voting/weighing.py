"""What votes weigh by the confidence in their candidates, and which candidates vote at all."""

import asyncio
import math
from dataclasses import dataclass, field

from strategies.core.ports import Model
from strategies.core.values import Candidate, Task
from strategies.core.verifier import Verifier
from strategies.voting.confidence import GroupConfidence, Measure
from strategies.voting.count import VoteCount


@dataclass(slots=True, kw_only=True)
class Weighing:
    """The weights of the votes of one run.

    Attributes:
        groups: measures the confidence of groups of tokens.
        measure: which confidence of the groups counts; None for none of them.
        verifier: whose scores are the confidence instead; None for no verifier.
        is_weighted: whether votes weigh by confidence; else it only decides who votes.
        temperature: CISC's T, for the scores of a verifier.
        keep: share of the votes that count, those of the most confident candidates.

    """

    groups: GroupConfidence
    measure: Measure | None
    verifier: Verifier | None
    is_weighted: bool
    temperature: float
    keep: float
    _confidence: dict[int, float] = field(default_factory=dict)

    @property
    def num_logprobs(self) -> int | None:
        """The alternatives for each token that the confidence is read from; None if it needs none."""
        if self.verifier is not None:
            return self.verifier.num_logprobs
        return None if self.measure is None else self.groups.num_top

    async def note(self, task: Task, candidate: Candidate, model: Model) -> None:
        """Note the confidence in one more candidate."""
        if self.verifier is not None:
            [self._confidence[candidate.index]] = await self.verifier.score(task, [candidate], model)
        elif self.measure is not None:
            # in a thread, as everything whose time grows with the answer
            self._confidence[candidate.index] = await asyncio.to_thread(self.groups.of, candidate, self.measure)

    def of(self, votes: VoteCount) -> dict[int, float] | None:
        """Return the weights of the candidates whose votes count, by index; None where all count and weigh the same."""
        if self.verifier is None and self.measure is None:
            return None
        indices = [member.index for group in votes.groups for member in group.members]
        indices.sort(key=lambda index: (-self._confidence[index], index))
        confidence = {index: self._confidence[index] for index in indices[: math.ceil(self.keep * len(indices))]}
        if not self.is_weighted:
            return dict.fromkeys(confidence, 1.0)
        if self.verifier is None:
            return confidence
        # CISC without the softmax's denominator, which is the same for all. The highest is subtracted so that `exp` does not overflow at a
        # low temperature.
        highest = max(confidence.values(), default=0.0)
        return {index: math.exp((value - highest) / self.temperature) for index, value in confidence.items()}
