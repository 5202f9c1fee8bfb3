"""A verifier whose calls are OpenTelemetry spans. A strategy gets it in place of the verifier that it chose."""

from collections.abc import Sequence

from app.serving.metered_model import MeteredModel
from app.telemetry.spans import span_of
from strategies.core.ports import Model
from strategies.core.values import Candidate, Task
from strategies.core.verifier import Verifier


class TracedVerifier(Verifier):
    """Calls another verifier, each time within a span."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self.name = verifier.name
        self.num_logprobs = verifier.num_logprobs
        self.is_exact = verifier.is_exact

    def state(self, task: Task, candidate: Candidate) -> str:
        """Return what the other verifier returns."""
        return self._verifier.state(task, candidate)

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:
        """Return the other verifier's scores. Calls that it makes to the model are children of its span."""
        with span_of(model).child("verifier") as span:
            span.set({"ponder.verifier": self.name, "ponder.candidates": len(candidates)})
            traced_model = model.within(span) if isinstance(model, MeteredModel) else model
            return await self._verifier.score(task, candidates, traced_model)
