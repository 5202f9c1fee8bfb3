"""What a strategy or a verifier can refuse, and how a verifier fails."""


class StrategyError(Exception):
    """Base of the errors of strategies and verifiers.

    StrategyError
    +-- UnsupportedTask    the parameters cannot be honoured for this task
    +-- VerifierFailed     a verifier could not score; the strategy goes on with likelihood and adds a note to the result
    """


class UnsupportedTask(StrategyError):
    """The parameters cannot be honoured for this task.

    Attributes:
        parameter: the name of the one at fault.

    """

    def __init__(self, message: str, *, parameter: str) -> None:
        super().__init__(message)
        self.parameter = parameter


class VerifierFailed(StrategyError):
    """A verifier could not score. The message reaches the caller, so it holds no addresses and no secrets."""
