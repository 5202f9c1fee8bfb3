"""What may become of a field of a request, and how a table of fields is applied to a body."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from app.errors import InvalidRequest


class Use(StrEnum):
    """What becomes of a field."""

    HONOURED = "honoured"
    NO_EFFECT = "no effect"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Field:
    """What becomes of one field.

    Attributes:
        note: what the field does here; for a refused field the reason and the way out, as a sentence of an error message.
        is_harmless: whether a value of a refused field asks for nothing, and is therefore accepted: `false` or an empty list.

    """

    use: Use
    note: str
    is_harmless: Callable[[Any], bool] = lambda value: not value


Table = Mapping[str, Field]


def honoured(**notes: str) -> dict[str, Field]:
    """Return fields that are honoured, with what they do."""
    return {name: Field(Use.HONOURED, note) for name, note in notes.items()}


def without_effect(**notes: str) -> dict[str, Field]:
    """Return fields that are accepted and have no effect, with the reason."""
    return {name: Field(Use.NO_EFFECT, note) for name, note in notes.items()}


def refused(**notes: str) -> dict[str, Field]:
    """Return fields that are refused, with the reason and the way out."""
    return {name: Field(Use.REFUSED, note) for name, note in notes.items()}


def among(table: Table, *names: str) -> dict[str, Field]:
    """Return the fields of a table with these names: another request has them with the same meaning."""
    return {name: table[name] for name in names}


def refuse_what_must_be(table: Table, data: Mapping[str, Any]) -> None:
    """Raise `InvalidRequest` for the first field of `data` that the table refuses, unless its value asks for nothing."""
    for name, value in data.items():
        field = table.get(name)
        if field is not None and field.use is Use.REFUSED and not field.is_harmless(value):
            raise InvalidRequest(f"{name}: {field.note}.", parameter=name)


def accepted_without_effect(table: Table) -> frozenset[str]:
    """Return the names of the fields that are not honoured, and accepted nevertheless."""
    return frozenset(name for name, field in table.items() if field.use is not Use.HONOURED)
