"""Records whether callers found answers right. Counts it by difficulty bin, and keeps the questions if the operator wants that."""

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
"""The largest size of the file. Clients fill it, so it must not fill the disk."""


class Feedback:
    """Records feedback on the requests of one server.

    Args:
        path: the file to which confirmed answers are appended, as questions for `ponder calibrate`. None keeps no answers.
        metrics: counts right and wrong answers.

    """

    def __init__(self, path: Path | None, metrics: Metrics) -> None:
        self._path = path
        self._metrics = metrics
        self._lock = asyncio.Lock()

    def remember(
        self, trace: SearchTrace, request: InferenceRequest, kind: AnswerKind, chosen: ScoredCandidate, text: str
    ) -> None:
        """Store the question and its answer in the trace until the caller gives feedback. `text` is what was read of the answer.

        Nothing is stored without a feedback file, for a text completion, or for an answer that cannot be read.
        """
        if self._path is None or not request.is_chat:
            return
        answer = chosen.answer if chosen.answer is not None else read_answer(kind, text)
        messages = plain_messages(request.bodies[0]["messages"])
        if answer is not None and messages is not None:
            trace.num_chars += sum(len(message["content"]) for message in messages)
            trace.example = {"messages": messages, "answer": answer, "kind": kind.value, "task": "feedback", "bin": trace.bin}

    async def record(self, trace: SearchTrace, *, is_right: bool) -> bool:
        """Count the caller's feedback, and return whether the question was kept.

        Raises:
            InvalidRequest: the request was not answered, or the caller gave the opposite feedback before.

        """
        if trace.status != "completed":
            raise InvalidRequest(f"The request `{trace.id}` has not been answered.", parameter="trace_id")
        if trace.is_right not in (None, is_right):
            raise InvalidRequest(f"The request `{trace.id}` has already got the opposite feedback.", parameter="correct")
        if trace.is_right is not None:
            return False
        trace.is_right = is_right
        self._metrics.count_feedback(trace, is_right=is_right)
        if trace.on_feedback is not None:
            trace.on_feedback(is_right)
        if not is_right or trace.example is None or self._path is None:
            return False
        async with self._lock:
            return await asyncio.to_thread(_append, self._path, json.dumps(trace.example))


def _append(path: Path, line: str) -> bool:
    try:
        if path.exists() and path.stat().st_size + len(line) > MAX_BYTES:
            logger.warning("%s is full: feedback is counted, and not kept", path)
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # the file contains prompts, so that only its owner may read it
        append_line(path, line)
    except OSError as error:
        logger.warning("feedback cannot be kept: %s", error)
        return False
    return True


def plain_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, str]] | None:
    """Return the messages if each has only a role and a text. Return None if not: calibration cannot send tool calls, for instance."""
    plain = [{"role": message.get("role"), "content": message.get("content")} for message in messages]
    is_plain = all(one["role"] in ("system", "user", "assistant") and isinstance(one["content"], str) for one in plain)
    return plain if is_plain else None  # type: ignore[return-value] # checked in the line above
