"""The errors that the service can end a request with. They carry words and a parameter; `app.api.errors` gives them a status.

PonderError
+-- InvalidRequest     the request is wrong; `parameter` names the field
|   +-- TooLarge       the body is larger than the server accepts
+-- Unauthorized       no valid API key
+-- Forbidden          it is known who asks, or where from, and that may not do this
+-- NotFound           there is no such model or strategy path
|   +-- UnknownTrace   nor such a trace, for this key
+-- Busy               try again after `retry_after` seconds
|   +-- QuotaExceeded  because of what this key already runs
|   +-- Overloaded     because of what everybody runs
+-- EngineDead         the engine is gone; the process is about to end
+-- Disconnected       the client left; nobody reads the answer
"""


class PonderError(Exception):
    """Base of all errors that a client may see; the message is written for them."""

    def __init__(self, message: str, *, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


class InvalidRequest(PonderError):
    """The request is wrong; the message says what and `parameter` where."""


class TooLarge(InvalidRequest):
    """The body is larger than the server accepts."""


class Unauthorized(PonderError):
    """The API key is missing or wrong."""


class Forbidden(PonderError):
    """Not from here, or not with this server's settings."""


class NotFound(PonderError):
    """What was asked for does not exist."""


class UnknownTrace(NotFound):
    """No request of this key has left a trace of that id, or it had to make room."""


class Busy(PonderError):
    """Try again later."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QuotaExceeded(Busy):
    """This key already runs as many branches as it may."""


class Overloaded(Busy):
    """The server already has as many branches as it can hold."""


class Disconnected(PonderError):
    """The client left before its answer was complete."""


class EngineDead(PonderError):
    """The engine died; nothing can be generated until the process is started again."""


def first_error(error: BaseException) -> BaseException:
    """Return the first error in a group that is not a group itself; an error that is no group is returned as it is."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
