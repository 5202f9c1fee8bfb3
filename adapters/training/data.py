"""Chats to train on: JSON lines, read with a reason for every line that is refused, and counted where they are too long.

A line is `{"messages": [{"role": …, "content": …}, …]}`, and its last message is the assistant's: that is what is learned, all before
it is what it answers. Other fields are left alone, so that one file serves training, distillation and benchmarks.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.training.errors import DataRefused

IGNORED = -100
"""Label of a token that is not learned, as torch and transformers have it."""

M = TypeVar("M", bound=BaseModel)


class Message(BaseModel):
    """One turn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1)


class Chat(BaseModel):
    """A conversation that the assistant ends."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    messages: tuple[Message, ...] = Field(min_length=2)


class Question(BaseModel):
    """A conversation to be answered.

    Attributes:
        answer: the right one, None where only a rule or the majority tells.
        verifier: a rule that knows a right answer, as a request names it.
        kind: of the answer, as a request names it.
        task: what it is one of, and `bin` how hard the data call it, for reports.

    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    messages: tuple[Message, ...] = Field(min_length=1)
    answer: str | None = None
    verifier: dict[str, Any] | None = None
    kind: str = "auto"
    task: str = ""
    bin: int = 0

    @property
    def key(self) -> str:
        """Names the question in a file of samples: the hash of what is asked."""
        return digest([message.model_dump() for message in self.messages])


@dataclass(frozen=True, slots=True)
class Encoded:
    """Chats as token ids.

    Attributes:
        rows: `input_ids` and `labels` of each, equally long; labels are `IGNORED` where nothing is learned.
        chats: the same examples as they were.
        num_too_long: examples that were left out since they do not fit the context.

    """

    rows: list[dict[str, list[int]]]
    chats: list[dict[str, Any]]
    num_too_long: int


def read_chats(path: Path) -> list[Chat]:
    """All chats of the file; raises `DataRefused` with the number of the first bad line, or when there are none."""
    chats = []
    for number, fields in _lines(path):
        chat = _checked(Chat, path, number, fields)
        if chat.messages[-1].role != "assistant":
            raise DataRefused(f"{path}, line {number}: the last message is the {chat.messages[-1].role}'s, not the assistant's")
        chats.append(chat)
    return chats


def read_questions(path: Path) -> list[Question]:
    """All questions of the file. An assistant's last message is what a data set answers: it is dropped."""
    questions = []
    for number, fields in _lines(path):
        question = _checked(Question, path, number, fields)
        if question.messages[-1].role == "assistant":
            question = question.model_copy(update={"messages": question.messages[:-1]})
        if not question.messages:
            raise DataRefused(f"{path}, line {number}: there is no question before the answer")
        questions.append(question)
    return questions


def encode(tokenizer: Any, chats: Sequence[Chat], context: int) -> Encoded:
    """As the chat template writes them; only the last turn is learned, with the token that ends it.

    Examples of more than `context` tokens are left out and counted, never cut. Raises `DataRefused` when none is left, or
    when the template does not write a conversation as its beginning followed by the answer.
    """
    rows, kept = [], []
    for chat in chats:
        said = [message.model_dump() for message in chat.messages]
        before = tokenizer.apply_chat_template(said[:-1], add_generation_prompt=True, return_dict=False)
        whole = tokenizer.apply_chat_template(said, return_dict=False)
        if whole[: len(before)] != before:
            raise DataRefused("the chat template writes a question differently when an answer follows: it cannot be trained on")
        if len(whole) <= context:
            rows.append({"input_ids": whole, "labels": [IGNORED] * len(before) + whole[len(before) :]})
            kept.append({"messages": said})
    if not rows:
        raise DataRefused(f"all {len(chats)} examples are longer than the context of {context} tokens")
    return Encoded(rows, kept, len(chats) - len(rows))


def digest(value: Any) -> str:
    """Hash of a JSON value, 16 hexadecimal digits; equal values have equal ones."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Number and value of each line that is not blank."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataRefused(f"{path} cannot be read: {error.strerror}") from error
    is_empty = True
    for number, line in enumerate(content.split(b"\n"), 1):
        if line.strip():
            is_empty = False
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataRefused(f"{path}, line {number}: not valid JSON: {error}") from error
    if is_empty:
        raise DataRefused(f"{path} is empty")


def _checked(model: type[M], path: Path, number: int, fields: Any) -> M:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(str(part) for part in fault["loc"]) or "line"
        raise DataRefused(f"{path}, line {number}: `{field}`: {fault['msg']}") from error
