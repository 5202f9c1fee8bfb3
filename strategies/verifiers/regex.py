"""Scores by a pattern that the client writes. Patterns are matched in linear time, because what a client writes is not trusted."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import re2
from pydantic import Field

from strategies.core.errors import UnsupportedTask
from strategies.core.parameters import Params
from strategies.core.ports import Model
from strategies.core.values import Candidate, Task
from strategies.core.verifier import StrategyContext, Verifier
from strategies.verifiers.exact import exact_scores

PATTERN_BYTES = 256 * 1024
"""The most memory of a compiled pattern."""


class RegexParams(Params):
    """`{"regex": pattern}`."""

    regex: Annotated[str, Field(max_length=1000, description="found anywhere in the answer; anchor it with `^` and `$`")]


class RegexVerifier(Verifier):
    """1.0 if the pattern is found in the answer. Raises `UnsupportedTask` for a pattern that is broken or grows too large."""

    name = "regex"
    summary = "Exact: whether a pattern (RE2 syntax) is found in the answer."
    Params = RegexParams
    is_exact = True
    ranks_steps = False

    def __init__(self, params: RegexParams, context: StrategyContext) -> None:
        super().__init__(params, context)
        options = re2.Options()
        options.max_mem = PATTERN_BYTES
        options.log_errors = False
        options.never_capture = True
        try:
            self._pattern = re2.compile(params.regex.encode(), options)
        except (re2.error, UnicodeEncodeError) as error:
            reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else "not Unicode"
            raise UnsupportedTask(f"regex is not a pattern that RE2 takes: {reason}", parameter="verifier") from error

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:  # noqa: ARG002
        """Return 1.0 or 0.0 each; 0.5 for an answer that is not complete."""
        texts = [task.read(candidate).encode(errors="replace") for candidate in candidates if candidate.is_complete]
        # in a thread, where RE2 releases the interpreter: for large patterns and long answers a search takes seconds
        found = await asyncio.to_thread(lambda: [self._pattern.search(text) is not None for text in texts])
        return exact_scores(candidates, found)
