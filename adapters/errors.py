"""What can go wrong with an adapter; `app.api.errors` gives each a status.

AdapterError
+-- AdapterRefused    what was sent is not an adapter that this server takes; `parameter` names the field
|   +-- AdapterFailed the engine would not load it, or computed nonsense with it
+-- UnknownAdapter    there is no adapter or version of that name
+-- AdapterConflict   it cannot be done in the state that the adapter is in
+-- AdapterLost       the version is known, but its files are gone or no longer usable
+-- NoSlot            every slot of the engine is in use; try again after `retry_after` seconds
"""


class AdapterError(Exception):
    """Base of all; the message is written for whoever sent the request, `parameter` names the field at fault."""

    def __init__(self, message: str, *, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


class AdapterRefused(AdapterError):
    """What was sent is not an adapter that this server takes."""


class AdapterFailed(AdapterRefused):
    """The engine would not load it, or computed nonsense with it."""


class UnknownAdapter(AdapterError):
    """There is no adapter or version of that name."""


class AdapterConflict(AdapterError):
    """It cannot be done in the state that the adapter is in."""


class AdapterLost(AdapterError):
    """The version is known, but its files are gone or no longer usable."""


class NoSlot(AdapterError):
    """Every slot of the engine is in use by running requests."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message, parameter="model")
        self.retry_after = retry_after
