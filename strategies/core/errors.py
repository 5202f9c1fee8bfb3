"""What a strategy or a verifier can refuse, and how a verifier fails."""


class StrategyError(Exception):
    """Base of what a strategy can refuse.

    StrategyError
    +-- UnsupportedTask    the parameters cannot be honoured for this task
    +-- VerifierFailed     a verifier outside the engine could not answer; whoever asked it falls back and says so
    """


class UnsupportedTask(StrategyError):
    """The parameters cannot be honoured for this task. `parameter` names the one at fault."""

    def __init__(self, message: str, *, parameter: str) -> None:
        super().__init__(message)
        self.parameter = parameter


class VerifierFailed(StrategyError):
    """A verifier outside the engine could not answer. The message is for the caller: no addresses, no secrets."""
