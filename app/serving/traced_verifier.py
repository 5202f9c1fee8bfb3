"""A verifier whose work is a span. Search knows no tracing: it is given this instead of the verifier that it asked for."""

from collections.abc import Sequence

from app.serving.metered_model import MeteredModel
from app.telemetry.spans import span_of
from strategies.core.ports import Model
from strategies.core.values import Candidate, Task
from strategies.core.verifier import Verifier


class TracedVerifier(Verifier):
    """As the verifier that it stands for."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self.name = verifier.name
        self.num_logprobs = verifier.num_logprobs
        self.is_exact = verifier.is_exact

    def state(self, task: Task, candidate: Candidate) -> str:
        """Its word."""
        return self._verifier.state(task, candidate)

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:
        """Its scores; what it asks of the model is within its span."""
        with span_of(model).child("verifier") as span:
            span.set({"ponder.verifier": self.name, "ponder.candidates": len(candidates)})
            asked = model.within(span) if isinstance(model, MeteredModel) else model
            return await self._verifier.score(task, candidates, asked)
