"""The base of all request bodies: `null` is the same as absent, and a field that nobody knows is ignored and named in the reply."""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Self

from fastapi import Request
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from app.api.field_table import Table, accepted_without_effect, refuse_what_must_be
from app.errors import InvalidRequest

INT64 = 2**63 - 1
"""The largest integer that the engine takes."""

MAX_FAULTS = 1000
"""The most faults of a body that are told one by one. To collect half a million takes seconds and gigabytes."""

ModelName = Annotated[str, Field(min_length=1, max_length=512)]


def without_nulls(data: object) -> object:
    """Return a JSON object without its null fields, anything else as it is."""
    return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


def lone_surrogate(value: object, path: tuple[str, ...] = ()) -> tuple[str, ...] | None:
    """Return the path to the first text in a JSON value that has half a surrogate pair, which no encoding can hold; else None."""
    if isinstance(value, str):
        return None if is_encodable(value) else path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found = path if isinstance(key, str) and not is_encodable(key) else lone_surrogate(inner, (*path, str(key)))
        if found is not None:
            return found
    return None


def is_encodable(text: str) -> bool:
    """Whether a text can be encoded in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


async def refuse_lone_surrogates(request: Request) -> None:
    """FastAPI dependency that refuses a JSON body with half a surrogate pair in a text. It runs after the body was read and parsed."""
    if "json" not in request.headers.get("content-type", "").lower() or request.scope["route"].body_field is None:
        return
    content = await request.body()
    if not _is_utf8(content):
        raise InvalidRequest("The body is not UTF-8.")
    if b"\\ud" not in content and b"\\uD" not in content:
        return
    check_encodable(await request.json())


def _is_utf8(content: bytes) -> bool:
    """Whether a JSON body is UTF-8. Python's parser also takes UTF-16 and UTF-32, and half a surrogate pair as three bytes."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return json.detect_encoding(content).startswith("utf-8")


def check_encodable(body: Mapping[str, Any]) -> None:
    """Raise `InvalidRequest` for a body with half a surrogate pair in a text, wherever it stands."""
    path = lone_surrogate(body)
    if path is not None:
        where = ".".join(path)
        message = f"{where or 'the body'}: a text has half a surrogate pair, which is no character"
        raise InvalidRequest(message, parameter=where or None)


class ClosedBody(BaseModel):
    """A body of this server's own, not of OpenAI's: a field that it does not have is a mistake, and is refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True, strict=True)


class Body(BaseModel):
    """A body, or an object in a body. Types are not guessed, and non-finite numbers are refused.

    Attributes:
        without_effect: names of fields that are accepted and do nothing. They are not named in the reply.

    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, frozen=True, strict=True)

    without_effect: ClassVar[frozenset[str]] = frozenset()

    _known: ClassVar[frozenset[str]] = frozenset()
    _unknown: tuple[str, ...] = PrivateAttr(())

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Collect the names that the class knows once, since every message of every request is compared with them."""
        super().__pydantic_init_subclass__(**kwargs)
        cls._known = cls._names() | cls.without_effect

    @model_validator(mode="wrap")
    @classmethod
    def _leave_out_nulls(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(data, dict):
            return handler(data)
        data = cls.prepared({name: value for name, value in data.items() if value is not None})
        try:
            body = handler(data)
        except ValidationError as error:
            if (number := error.error_count()) > MAX_FAULTS:
                raise InvalidRequest(f"The body has {number} faults.") from None
            raise
        body._unknown = tuple(name for name in data if name not in cls._known)
        return body

    @classmethod
    def prepared(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Return the fields as they are validated. A subclass rewrites older forms here, and refuses what it must."""
        return data

    @classmethod
    def _names(cls) -> frozenset[str]:
        return frozenset(field.alias or name for name, field in cls.model_fields.items())

    def ignored_fields(self) -> Iterator[str]:
        """Yield the fields of this body that nobody knows, those of nested bodies with their path: `messages.0.colour`."""
        yield from self._unknown
        for name in self.model_fields_set:
            value = getattr(self, name)
            if isinstance(value, Body):
                yield from (f"{name}.{inner}" for inner in value.ignored_fields())
            elif isinstance(value, list):
                for position, item in enumerate(value):
                    if isinstance(item, Body):
                        yield from (f"{name}.{position}.{inner}" for inner in item.ignored_fields())


class RequestBody(Body):
    """The body of a request.

    Attributes:
        table: what becomes of each field. Those that it accepts without effect are known, and those that it refuses are refused.

    """

    table: ClassVar[Table] = {}

    @classmethod
    def prepared(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Refuse what the table refuses. A subclass rewrites older forms besides."""
        refuse_what_must_be(cls.table, data)
        return data

    @classmethod
    def _names(cls) -> frozenset[str]:
        return super()._names() | accepted_without_effect(cls.table)
