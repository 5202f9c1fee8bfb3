"""What a route needs of whoever answers: one model, or a cascade of several."""

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

from app.request import Caller, InferenceRequest
from app.serving.model_names import ModelNames
from app.serving.preview import Preview
from app.serving.session import Session

if TYPE_CHECKING:
    from app.serving.service import Service


class Answerer(Protocol):
    """Answers requests.

    Attributes:
        names: the names of models that it answers for.

    """

    names: ModelNames

    @property
    def reader(self) -> "Service":
        """The service whose tokenizer and context tell whether a prompt fits."""
        ...

    def open(self, request: InferenceRequest, caller: Caller) -> AbstractAsyncContextManager[Session]:
        """Admit a request, and give its session; see `Service.open`."""
        ...

    async def preview(self, request: InferenceRequest) -> Preview:
        """Return what `open` would run; see `Service.preview`."""
        ...
