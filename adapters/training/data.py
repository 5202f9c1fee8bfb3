"""Reads chats and questions from JSON lines. A bad line is refused with its number and the reason.

A line is `{"messages": [{"role": …, "content": …}, …]}`. In a chat the last message is the assistant's, which is what
is learned; all messages before it are its context. Unknown fields are ignored, so that one file serves training,
distillation and benchmarks.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.digest import digest
from adapters.training.errors import DataRefused

IGNORED = -100
"""Label of a token that is not learned: torch's and transformers' default."""

M = TypeVar("M", bound=BaseModel)


class Message(BaseModel):
    """One message of a chat."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1)


class Chat(BaseModel):
    """A conversation whose last message is the assistant's.

    Attributes:
        chat_template_kwargs: as in a request.
        unlearned: passages of the last message that are not learned, such as a mistake that it mends later. Each stands for its
            first occurrence.

    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    messages: tuple[Message, ...] = Field(min_length=2)
    chat_template_kwargs: dict[str, Any] = {}
    unlearned: tuple[Annotated[str, Field(min_length=1)], ...] = ()


class DatasetQuestion(BaseModel):
    """A conversation that shall be answered.

    Attributes:
        answer: the reference answer; None where a rule or the majority decides what is right.
        verifier: a rule that recognises a right answer, spelled as in a request.
        kind: of the answer, spelled as in a request.
        task: group of questions that it belongs to, for reports.
        bin: how difficult the data set calls it, for reports.

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
        """Hash of the messages, which identifies the question in a file of samples."""
        return digest([message.model_dump() for message in self.messages])


@dataclass(frozen=True, slots=True)
class Encoded:
    """Chats as token ids.

    Attributes:
        rows: `input_ids` and `labels` of each, equally long; labels are `IGNORED` where nothing is learned.
        chats: the same examples as they were.
        num_too_long: examples that were left out since they are longer than the context.

    """

    rows: list[dict[str, list[int]]]
    chats: list[dict[str, Any]]
    num_too_long: int


def read_chats(path: Path) -> list[Chat]:
    """Return all chats of the file; raises `DataRefused` for an empty file, or with the number of a bad line."""
    chats = []
    for number, fields in _lines(path):
        chat = _checked(Chat, path, number, fields)
        if chat.messages[-1].role != "assistant":
            raise DataRefused(f"{path}, line {number}: the last message is the {chat.messages[-1].role}'s, not the assistant's")
        chats.append(chat)
    return chats


def read_questions(path: Path) -> list[DatasetQuestion]:
    """Return all questions of the file; raises what `read_chats` raises.

    A last message of the assistant is the data set's own answer, and is dropped.
    """
    return [_question(path, number, fields) for number, fields in _lines(path)]


def _question(path: Path, number: int, fields: Any) -> DatasetQuestion:
    question = _checked(DatasetQuestion, path, number, fields)
    if question.messages[-1].role == "assistant":
        question = question.model_copy(update={"messages": question.messages[:-1]})
    if not question.messages:
        raise DataRefused(f"{path}, line {number}: there is no question before the answer")
    return question


def read_prompts(path: Path) -> list[DatasetQuestion]:
    """Return all questions of a file that need no answers; raises what `read_chats` raises.

    A line is what `read_questions` reads, or `{"prompt": "…"}`. A `.txt` file has one prompt a line.
    """
    lines = _lines(path, bytes.decode) if path.suffix == ".txt" else _lines(path)
    return [_question(path, number, _as_chat(value)) for number, value in lines]


def _as_chat(line: Any) -> Any:
    if isinstance(line, str):
        return {"messages": [{"role": "user", "content": line.strip()}]}
    if isinstance(line, dict) and "messages" not in line and "prompt" in line:
        return {**line, "messages": [{"role": "user", "content": line["prompt"]}]}
    return line


def encode(tokenizer: Any, chats: Sequence[Chat], context: int) -> Encoded:
    """Tokenize chats with the chat template. Only the last message is learned, with the token that ends it.

    Examples of more than `context` tokens are left out and counted, never cut: a cut answer would teach the model to
    stop early.

    Raises:
        DataRefused: no example is left, or the template writes a conversation differently once an answer follows it, so
            that it cannot be told where the answer starts.

    """
    rows, kept = [], []
    for chat in chats:
        messages = [message.model_dump() for message in chat.messages]
        render = partial(tokenizer.apply_chat_template, tokenize=False, **chat.chat_template_kwargs)
        before = render(messages[:-1], add_generation_prompt=True)
        whole = render(messages)
        if not whole.startswith(before):
            raise DataRefused("the chat template writes a question differently when an answer follows: it cannot be trained on")
        # Each by itself, as a model reads a prompt and writes an answer: together, tokens may reach across the border.
        prompt = tokenizer(before, add_special_tokens=False).input_ids
        answer, labels = _learned(tokenizer, whole[len(before) :], chat.unlearned)
        if len(prompt) + len(answer) <= context:
            rows.append({"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + labels})
            kept.append({"messages": messages})
    if not rows:
        raise DataRefused(f"all {len(chats)} examples are longer than the context of {context} tokens")
    return Encoded(rows, kept, len(chats) - len(rows))


def _learned(tokenizer: Any, answer: str, unlearned: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the tokens and the labels of an answer, of which some passages are not learned."""
    if not unlearned:
        tokens = tokenizer(answer, add_special_tokens=False).input_ids
        return tokens, tokens
    encoded = tokenizer(answer, add_special_tokens=False, return_offsets_mapping=True)
    spans = [(answer.find(passage), len(passage)) for passage in unlearned]
    if any(start < 0 for start, _ in spans):
        raise DataRefused("a passage of `unlearned` is not in the last message as the chat template writes it")
    labels = [
        IGNORED if any(first < start + length and last > start for start, length in spans) else token
        for token, (first, last) in zip(encoded.input_ids, encoded.offset_mapping, strict=True)
    ]
    return encoded.input_ids, labels


def _lines(path: Path, read: Callable[[bytes], Any] = json.loads) -> Iterator[tuple[int, Any]]:
    """Yield the number and the value of each line that is not blank."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataRefused(f"{path} cannot be read: {error.strerror}") from error
    is_empty = True
    # Not `splitlines`, which would also split at carriage returns.
    for number, line in enumerate(content.split(b"\n"), 1):
        if line.strip():
            is_empty = False
            try:
                yield number, read(line)
            except (ValueError, RecursionError) as error:
                raise DataRefused(
                    f"{path}, line {number}: not valid {'JSON' if read is json.loads else 'UTF-8'}: {error}"
                ) from error
    if is_empty:
        raise DataRefused(f"{path} is empty")


def _checked(model: type[M], path: Path, number: int, fields: Any) -> M:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(str(part) for part in fault["loc"]) or "line"
        raise DataRefused(f"{path}, line {number}: `{field}`: {fault['msg']}") from error
