"""What a replica may answer to a branch. Any other answer is a failure of the replica, so that later code need not expect it."""

from app.engine.replica import Position, ReplicaFailed, TokenPart, TokenRequest

FINISH_REASONS = frozenset({"stop", "length", "abort", "repetition"})
"""Why a branch may have ended."""


class AnswerChecks:
    """Checks the parts of one replica's answer to a branch.

    Args:
        request: that is answered.
        vocab_size: token ids are below it.

    """

    def __init__(self, request: TokenRequest, vocab_size: int) -> None:
        self._request = request
        self._vocab_size = vocab_size
        self._left = request.sampling["max_tokens"]

    def check(self, part: TokenPart) -> None:
        """Raise `ReplicaFailed` for a part that cannot be true."""
        self._left -= len(part.token_ids)
        if self._left < 0:
            raise ReplicaFailed("it generated more tokens than it was asked for")
        if not all(map(self._is_token, part.token_ids)):
            raise ReplicaFailed("it generated a token that is not of the model")
        if part.finish_reason is not None and part.finish_reason not in FINISH_REASONS:
            raise ReplicaFailed(f"it ended a branch for no reason that is known: {part.finish_reason[:40]}")
        if part.positions or self._request.sampling.get("logprobs") is not None:
            self._check_positions(part)
        if not 0 <= (part.cached_tokens or 0) <= len(self._request.token_ids):
            raise ReplicaFailed("it had more of a prompt in its cache than there is")
        if not 0 <= part.drafts.accepted <= part.drafts.drafted:
            raise ReplicaFailed("it accepted more tokens than it drafted")
        if part.finish_reason is not None and self._request.sampling.get("prompt_logprobs") is not None:
            self._check_prompt(part)

    def _is_token(self, token: int) -> bool:
        return 0 <= token < self._vocab_size

    def _check_positions(self, part: TokenPart) -> None:
        def fits(token: int, position: Position) -> bool:
            return position[0][0] == token and all(self._is_token(one) for one, _ in position)

        if len(part.positions) != len(part.token_ids) or not all(map(fits, part.token_ids, part.positions)):
            raise ReplicaFailed("its log-probabilities are not those of its tokens")

    def _check_prompt(self, part: TokenPart) -> None:
        token_ids, positions = self._request.token_ids, part.prompt_logprobs or ()
        if part.finish_reason == "abort" and not positions:
            return
        if len(positions) != len(token_ids) or not all(
            position and str(token) in position and all(one.isdecimal() and self._is_token(int(one)) for one in position)
            for token, position in list(zip(token_ids, positions, strict=True))[1:]
        ):
            raise ReplicaFailed("its log-probabilities are not those of the prompt")
