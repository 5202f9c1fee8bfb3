"""Which answered requests a server may ask again, to calibrate from its traffic, and how."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.digest import digest
from adapters.version import AdapterVersion
from app.request import Caller, InferenceRequest
from app.routing.learning.lesson import Lesson
from app.serving.feedback import plain_messages
from strategies.core.values import AnswerKind

_KEPT = frozenset({"model", "messages", "reasoning_effort", "chat_template_kwargs"})
"""Fields of a body that a question is asked again with."""

_REPLACED = frozenset(
    {"temperature", "top_p", "top_k", "min_p", "seed", "max_tokens", "max_completion_tokens", "logprobs", "top_logprobs"}
)
"""Fields of a body that a question is asked again without: all questions of a pool are sampled in the same way."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that was answered.

    Attributes:
        kind: of its answer.
        lesson: what it may teach; None where nothing is learned.
        caller: who sent it.
        version: of the adapter that has answered; None for the base model.
        prompt_tokens: the length of its prompt.
        answer_tokens: the length of its longest answer.
        flops: that it has spent.

    """

    request: InferenceRequest
    kind: AnswerKind
    lesson: Lesson | None
    caller: Caller
    version: AdapterVersion | None
    prompt_tokens: int
    answer_tokens: int
    flops: int

    @property
    def body(self) -> Mapping[str, Any] | None:
        """The body with which the question is asked again.

        None where it must not be kept, where its answers cannot be compared, or where a field changes the answer that plain sampling
        does not have: tools, images, a format, stop strings, penalties.
        """
        request, body = self.request, self.request.bodies[0]
        if not (request.may_be_kept and request.is_chat) or self.kind in (AnswerKind.OPEN, AnswerKind.TOOLS):
            return None
        messages = plain_messages(body["messages"])
        if messages is None or messages[-1]["role"] != "user" or not body.keys() <= _KEPT | _REPLACED:
            return None
        return {**{name: value for name, value in body.items() if name in _KEPT}, "messages": messages}

    @property
    def key(self) -> str:
        """What identifies the question in a pool: the hash that `ponder calibrate` knows it by."""
        return digest(plain_messages(self.request.bodies[0]["messages"]))

    @property
    def salt(self) -> str | None:
        """What keeps its cached prefix apart from those of others."""
        return ":".join(filter(None, (self.caller.cache_salt, self.request.cache_salt))) or None
