"""What callers say of answers: counted by bin, and kept as questions for `ponder calibrate` where the operator wants that."""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters.disk import append_line
from app.errors import InvalidRequest
from app.request import InferenceRequest
from app.search_traces import SearchTrace
from app.telemetry.metrics import Metrics
from strategies.answers.reading import read_answer
from strategies.core.values import AnswerKind, ScoredCandidate

logger = logging.getLogger("ponder.feedback")

MAX_BYTES = 64 * 2**20
"""Of the file: clients fill it."""


class Feedback:
    """Takes it.

    Args:
        path: file that confirmed answers are added to, None to keep none.
        model: name of the base model, for the metrics.

    """

    def __init__(self, path: Path | None, model: str, metrics: Metrics) -> None:
        self._path = path
        self._model = model
        self._metrics = metrics
        self._lock = asyncio.Lock()

    def remember(self, trace: SearchTrace, request: InferenceRequest, kind: AnswerKind, chosen: ScoredCandidate) -> None:
        """Let the trace hold the question until somebody says whether the answer is right; only if it would be kept."""
        if self._path is None or not request.is_chat:
            return
        answer = chosen.answer if chosen.answer is not None else read_answer(kind, chosen.candidate.text)
        messages = _plain(request.bodies[0]["messages"])
        if answer is not None and messages is not None:
            trace.num_chars += sum(len(turn["content"]) for turn in messages)
            trace.asked = {"messages": messages, "answer": answer, "kind": kind.value, "task": "feedback", "bin": trace.bin}

    async def take(self, trace: SearchTrace, *, is_right: bool) -> bool:
        """Count it; whether it was kept too. Raises `InvalidRequest` where there is no answer, or another was said before."""
        if trace.status != "completed":
            raise InvalidRequest(f"The request `{trace.id}` has not been answered.", parameter="trace_id")
        if trace.is_right not in (None, is_right):
            raise InvalidRequest(f"The request `{trace.id}` was judged otherwise before.", parameter="correct")
        if trace.is_right is not None:
            return False
        trace.is_right = is_right
        self._metrics.count_feedback(self._model, trace, is_right=is_right)
        if not is_right or trace.asked is None or self._path is None:
            return False
        async with self._lock:
            return await asyncio.to_thread(_append, self._path, json.dumps(trace.asked))


def _append(path: Path, line: str) -> bool:
    try:
        if path.exists() and path.stat().st_size + len(line) > MAX_BYTES:
            logger.warning("%s is full: feedback is counted, and not kept", path)
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # there are prompts in it
        append_line(path, line)
    except OSError as error:
        logger.warning("feedback cannot be kept: %s", error)
        return False
    return True


def _plain(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, str]] | None:
    """Turns of text alone; None where there are others, such as those of tools."""
    turns = [{"role": one.get("role"), "content": one.get("content")} for one in messages]
    is_plain = all(turn["role"] in ("system", "user", "assistant") and isinstance(turn["content"], str) for turn in turns)
    return turns if is_plain else None  # type: ignore[return-value] # just checked
