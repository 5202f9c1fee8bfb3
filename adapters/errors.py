"""What can go wrong with an adapter; `app.api.errors` gives each a status.

AdapterError
+-- AdapterRefused    the files are not an adapter that this server accepts; `parameter` names the field
|   +-- AdapterFailed the engine could not load the version, or computed invalid probabilities with it
+-- UnknownAdapter    there is no adapter or version of that name
+-- AdapterConflict   the state of the adapter does not allow this
+-- AdapterLost       the version is known, but its files are gone or no longer usable
+-- NoAgreement       the other servers, which share the adapters, cannot be told of a change
+-- NoSlot            every slot of the engine is in use; try again after `retry_after` seconds
"""


class AdapterError(Exception):
    """Base of all errors of adapters.

    The message is written for the client, and `parameter` names the field at fault.
    """

    def __init__(self, message: str, *, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


class AdapterRefused(AdapterError):
    """The files are not an adapter that this server accepts."""


class AdapterFailed(AdapterRefused):
    """The engine could not load the version, or computed invalid probabilities with it."""


class UnknownAdapter(AdapterError):
    """There is no adapter or version of that name."""


class AdapterConflict(AdapterError):
    """The state of the adapter does not allow this."""


class AdapterLost(AdapterError):
    """The version is known, but its files are gone or no longer usable."""


class NoAgreement(AdapterError):
    """The other servers, which share the adapters, cannot be told of a change; so it was not made."""


class NoSlot(AdapterError):
    """Every slot of the engine is in use by running requests."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message, parameter="model")
        self.retry_after = retry_after
