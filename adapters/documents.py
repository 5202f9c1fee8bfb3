"""Reads the small JSON files of an adapter within bounds, and checks them.

Whatever is wrong is refused, naming file and field.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from adapters.errors import AdapterRefused

M = TypeVar("M", bound=BaseModel)

_MESSAGES = {"extra_forbidden": "this field is not known", "missing": "it is missing", "model_type": "it must be an object"}
"""Type of an error of pydantic -> a message for people who do not know pydantic."""


def read_document(model: type[M], path: Path, max_bytes: int) -> M:
    """Return the checked content of a file of at most `max_bytes`.

    Raises `AdapterRefused`, whose parameter is `file:field`, or the file where no single field is wrong.
    """
    data = _read_object(path, max_bytes)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = _field(first["loc"], data)
        message = _MESSAGES.get(first["type"], first["msg"].removeprefix("Value error, "))
        raise AdapterRefused(f"{path.name}: `{field}`: {message}.", parameter=f"{path.name}:{field}") from error


def _read_object(path: Path, max_bytes: int) -> dict[str, Any]:
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)  # one more byte tells that it is too large
    if len(content) > max_bytes:
        raise AdapterRefused(f"{path.name} is larger than {max_bytes} bytes.", parameter=path.name)
    try:
        data = json.loads(content.decode("utf-8-sig"), object_pairs_hook=partial(_unique, path.name))
        # JSON can escape half of a surrogate pair, but such text can neither be sent in an answer nor tokenised.
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeError as error:
        raise AdapterRefused(f"{path.name} is not valid UTF-8.", parameter=path.name) from error
    except (ValueError, RecursionError) as error:
        raise AdapterRefused(f"{path.name} is not valid JSON.", parameter=path.name) from error
    if not isinstance(data, dict):
        raise AdapterRefused(f"{path.name} is not a JSON object.", parameter=path.name)
    return data


def _field(loc: tuple[int | str, ...], value: object) -> str:
    """Return the path of a wrong field, up to the first value that is no object.

    List indices and names of pydantic's own may follow there.
    """
    names = []
    for part in loc:
        if not isinstance(value, dict):
            break
        names.append(str(part))
        value = value.get(part)
    return _printable(".".join(names))


def _unique(file: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that occurs twice.

    JSON readers differ on which one counts, so the engine might read another than was checked.
    """
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise AdapterRefused(f"{file}: `{_printable(key)}` is there twice.", parameter=f"{file}:{_printable(key)}")
        found[key] = value
    return found


def _printable(text: str) -> str:
    """Shorten a text for an error message, and remove halves of surrogate pairs."""
    return text[:200].encode(errors="replace").decode()
