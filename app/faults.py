"""Says in plain words what pydantic found wrong in a value: what is taken, and what was given."""

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

_BRANCH = re.compile(
    r"(?:str|int|float|bool|list|dict|constrained-\w+|literal|nullable|function-\w+)(?:\[|$)|type=\w+$|[A-Z][a-z]+Params$"
)
"""Matches a type in an error's location, or a tag of ours. Pydantic adds one where a value may have several types."""

_TAKEN = {
    "string_type": "a text",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "finite_number": "a finite number",
}
"""What is taken, by the type of error of a value that has another type."""

_OTHER_TYPE = {*_TAKEN, "literal_error", "enum"}
"""The types of errors that say that the value is another one altogether."""

_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
    "string_too_long": ("at most", "max_length"),
    "string_too_short": ("at least", "min_length"),
    "too_long": ("at most", "max_length"),
    "too_short": ("at least", "min_length"),
}
"""The word for a bound and its name in the error, by the type of error."""

_OWN_WORDS = {
    "missing": "this field is required",
    "extra_forbidden": "this field is not supported",
    "string_unicode": "a text has half a surrogate pair, which is no character",
}

_ITEMS = {"str": "texts", "constrained-str": "texts", "int": "integers", "constrained-int": "integers"}

_LONGEST_SHOWN = 32
"""The most characters of a text that an error repeats."""

_LARGEST_SHOWN = 10**15
"""The largest number that an error repeats."""

Fault = Mapping[str, Any]
"""One of pydantic's errors: `loc`, `type`, `msg`, `input` and `ctx`."""


def describe(faults: Sequence[Fault]) -> tuple[str, str]:
    """Return the path of the first wrong field, and what is wrong with it.

    Pydantic reports a value that may have several types once for each of them. Of these the one is described that the value comes
    nearest to. If it comes near to none, all of them are named.
    """
    return _described(faults, (), "items")


def _described(faults: Sequence[Fault], path: tuple[str, ...], items: str) -> tuple[str, str]:
    """Describe the first of the faults. Their locations begin behind `path`, which leads to a list of `items`."""
    first = faults[0]
    depth = next((depth for depth, part in enumerate(first["loc"]) if _is_branch(part)), None)
    if depth is None:
        return ".".join((*path, *map(str, first["loc"]))), _message(first, items)
    before = first["loc"][:depth]
    path = (*path, *map(str, before))
    same = [fault for fault in faults if fault["loc"][:depth] == before and len(fault["loc"]) > depth]
    by_branch = [
        (tag, [{**fault, "loc": fault["loc"][depth + 1 :]} for fault in group])
        for tag, group in groupby(same, key=lambda fault: str(fault["loc"][depth]))
    ]
    near = [(tag, group) for tag, group in by_branch if not _is_other_type(group[0])]
    if not near:
        forms = list(dict.fromkeys(_form(tag, fault) for tag, group in by_branch for fault in group if not fault["loc"]))
        return ".".join(path), f"{', '.join(forms[:-1])}{' or ' * (len(forms) > 1)}{forms[-1]}, got {_given(first['input'])}"
    tag, group = max(near, key=_nearness)
    items = _items(tag)
    for part in group[0]["loc"]:
        items = items.removeprefix("lists of ") if isinstance(part, int) else "items"
    return _described(group, path, items)


def _is_branch(part: int | str) -> bool:
    return isinstance(part, str) and _BRANCH.match(part) is not None


def _is_other_type(fault: Fault) -> bool:
    """Whether the value as a whole has another type than this branch takes."""
    return not fault["loc"] and fault["type"] in _OTHER_TYPE


def _nearness(branch: tuple[str, Sequence[Fault]]) -> tuple[bool, bool, int, int]:
    """Return how near a value is to a branch: by its fields, by its types, by how deep its fault lies, and by where in a list it is."""
    faults = branch[1]
    has_right_fields = all(fault["type"] not in ("missing", "extra_forbidden") for fault in faults)
    loc = faults[0]["loc"]
    position = next((part for part in loc if isinstance(part, int)), 0)
    return has_right_fields, faults[0]["type"] not in _OTHER_TYPE, len(loc), position


def _form(tag: str, fault: Fault) -> str:
    """Return what a branch takes: `a text`, `a list of texts`, `one of 'none', 'auto'`."""
    if fault["type"] == "list_type":
        return f"a list of {_items(tag)}"
    return _taken(fault)


def _items(tag: str) -> str:
    inner = tag.removeprefix("list[").removesuffix("]") if tag.startswith("list[") else ""
    if inner.startswith("list["):
        return f"lists of {_items(inner)}"
    return _ITEMS.get(inner, "parts" if "_keep_content" in inner else "items")


def _taken(fault: Fault) -> str:
    if fault["type"] in _TAKEN:
        return _TAKEN[fault["type"]]
    expected = str(fault["ctx"]["expected"])
    return f"one of {expected.replace(' or ', ', ')}" if " or " in expected else expected


def _message(fault: Fault, items: str) -> str:
    kind, value, context = fault["type"], fault.get("input"), fault.get("ctx", {})
    if kind in _OTHER_TYPE:
        return f"{_taken(fault)}, got {_given(value)}"
    if kind in _BOUNDS:
        word, name = _BOUNDS[kind]
        unit = {"st": " characters", "to": f" {items}"}.get(kind[:2], "")
        given = (len(value) if isinstance(value, Sequence) else context.get("actual_length")) if unit else value
        bound = context[name]
        return f"{word} {bound:g}{unit.removesuffix('s') if bound == 1 else unit}, got {given}"
    return _OWN_WORDS.get(kind) or str(fault["msg"]).removeprefix("Value error, ")


def _given(value: object) -> str:
    """Return a short value as it is, and the kind of any other."""
    if isinstance(value, str) and value.isprintable() and len(value) <= _LONGEST_SHOWN:
        return repr(value)
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if type(value) is int and abs(value) <= _LARGEST_SHOWN else kind_of(value)


def kind_of(value: object) -> str:
    """Return the kind of a JSON value in a few words."""
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}
    return "null" if value is None else kinds.get(type(value), "another value")
