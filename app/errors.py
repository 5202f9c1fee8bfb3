"""The errors that can end a request. Each has a message and a parameter; `app.api.errors` maps it to an HTTP status.

PonderError
+-- InvalidRequest     the request is wrong; `parameter` names the field
|   +-- TooLarge       the body is larger than the server accepts
|   +-- UnsupportedMedia  the body has an encoding or a type that is not served
|   +-- UnknownPrevious    there is no such response of this key to continue
+-- Unauthorized       no valid API key
+-- Forbidden          the caller is known, and may not do this
+-- NotFound           there is no such model or strategy path
|   +-- UnknownTrace   there is no such trace of this key
|   +-- UnknownResponse    there is no such response of this key
+-- Busy               try again after `retry_after` seconds
|   +-- QuotaExceeded  this key already runs as many branches as it may
|   +-- Overloaded     the server already runs as many branches as it can
|   +-- NoReplica      no replica of the engine is ready
|   +-- SharedStateLost    what several front ends share cannot be read or changed now
+-- Conflict           somebody else has changed the same thing meanwhile
+-- EngineFailed       the engine failed at this request alone, and goes on
+-- EngineDead         the engine is gone; the process is about to end
+-- Disconnected       the client left; nobody reads the answer
"""

from collections.abc import Iterator
from contextlib import contextmanager


class PonderError(Exception):
    """Base of all errors that a client may see; the message is written for clients."""

    def __init__(self, message: str, *, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


class InvalidRequest(PonderError):
    """The request is wrong. The message says what is wrong, and `parameter` names the field."""


class TooLarge(InvalidRequest):
    """The body is larger than the server accepts."""


class UnsupportedMedia(InvalidRequest):
    """The body has an encoding or a content type that is not served."""


class UnknownPrevious(InvalidRequest):
    """No response of this key has the id that the request wants to continue, or it was dropped to make room."""


class Unauthorized(PonderError):
    """The API key is missing or wrong."""


class Forbidden(PonderError):
    """The caller may not do this: from this address, with this key, or with this server's settings."""


class NotFound(PonderError):
    """The requested model, path or object does not exist."""


class UnknownTrace(NotFound):
    """No request of this key has a trace with that id, or the trace was dropped to make room."""


class UnknownResponse(NotFound):
    """No response of this key has that id, or it was dropped to make room."""


class Busy(PonderError):
    """The server cannot take the request now. `retry_after` is the number of seconds to wait."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QuotaExceeded(Busy):
    """This key already runs as many branches as it may."""


class Overloaded(Busy):
    """The server already has as many branches as it can hold."""


class SharedStateLost(Busy):
    """What several front ends share cannot be read or changed now. `why` is the reason, for the log."""

    def __init__(self, message: str, *, why: str = "") -> None:
        super().__init__(message, retry_after=5.0)
        self.why = why


class Conflict(PonderError):
    """Somebody else has changed the same thing meanwhile, so that nothing was changed here."""


class NoReplica(Busy):
    """The engine lives on other servers, and none of them is ready."""


class Disconnected(PonderError):
    """The client left before its answer was complete."""


class EngineFailed(PonderError):
    """The engine failed at this request, and goes on with others."""


class EngineDead(PonderError):
    """The engine died; nothing can be generated until the process is started again."""


def first_error(error: BaseException) -> BaseException:
    """Return the first error in a group that is not a group itself; an error that is no group is returned as it is."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextmanager
def first_error_only() -> Iterator[None]:
    """Raise the first error of a task group in place of the group."""
    try:
        yield
    except BaseExceptionGroup as errors:
        raise first_error(errors) from None
