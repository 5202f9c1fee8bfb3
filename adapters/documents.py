"""The small JSON files of an adapter: read whole, within bounds, and checked; whatever is wrong is refused by file and field."""

import json
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from adapters.errors import AdapterRefused

M = TypeVar("M", bound=BaseModel)

_WORDS = {"extra_forbidden": "this field is not known", "missing": "it is missing", "model_type": "it must be an object"}
"""pydantic's kind of error -> what is said to people who know nothing of pydantic."""


def read_document(model: type[M], path: Path, max_bytes: int) -> M:
    """What the file says; raises `AdapterRefused`, whose parameter is `file:field`."""
    data = _read_object(path, max_bytes)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = _field(first["loc"], data)
        message = _WORDS.get(first["type"], first["msg"].removeprefix("Value error, "))
        raise AdapterRefused(f"{path.name}: `{field}`: {message}.", parameter=f"{path.name}:{field}") from error


def _read_object(path: Path, max_bytes: int) -> dict[str, Any]:
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise AdapterRefused(f"{path.name} is larger than {max_bytes} bytes.", parameter=path.name)
    try:
        data = json.loads(content.decode("utf-8-sig"), object_pairs_hook=partial(_unique, path.name))
        # Halves of surrogate pairs can be escaped in JSON, but neither be sent in an answer nor tokenised.
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeError as error:
        raise AdapterRefused(f"{path.name} is not valid UTF-8.", parameter=path.name) from error
    except (ValueError, RecursionError) as error:
        raise AdapterRefused(f"{path.name} is not valid JSON.", parameter=path.name) from error
    if not isinstance(data, dict):
        raise AdapterRefused(f"{path.name} is not a JSON object.", parameter=path.name)
    return data


def _field(loc: tuple[int | str, ...], value: object) -> str:
    """The field's path, as far as it leads through objects: behind that come list indices, and names of pydantic's own."""
    names = []
    for part in loc:
        if not isinstance(value, dict):
            break
        names.append(str(part))
        value = value.get(part)
    return _printable(".".join(names))


def _unique(file: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Readers differ on which of two counts, so what one of them checked another might not serve."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise AdapterRefused(f"{file}: `{_printable(key)}` is there twice.", parameter=f"{file}:{_printable(key)}")
        found[key] = value
    return found


def _printable(text: str) -> str:
    """Short enough for an answer, and without halves of surrogate pairs."""
    return text[:200].encode(errors="replace").decode()
