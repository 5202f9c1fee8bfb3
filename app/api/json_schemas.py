"""Refuses by name what is wrong in a JSON schema, and what the engine's grammar does not hold of it.

vLLM compiles schemas by xgrammar, which leaves out in silence what it cannot hold: the answer would look as if it followed the schema.
"""

import copy
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import jsonschema_rs
import re2

_NEVER_HELD = (
    "not", "if", "dependentRequired", "dependentSchemas", "dependencies", "uniqueItems", "contains", "minContains", "maxContains",
    "multipleOf", "$dynamicRef", "$recursiveRef",
)  # fmt: skip
"""Keywords that xgrammar leaves out, whatever stands beside them."""

_NEEDS_TYPE = (
    "minLength", "maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems",
    "maxItems", "minProperties", "maxProperties", "patternProperties", "propertyNames",
)  # fmt: skip
"""Keywords that xgrammar leaves out where there is no `type`."""

STANDALONE = ("$ref", "anyOf", "oneOf", "allOf", "enum", "const")
"""Keywords that say what a value is without `type`. Beside them, xgrammar reads no other."""

_ASSERTIONS = frozenset(_NEEDS_TYPE) | {
    *STANDALONE, "type", "properties", "required", "additionalProperties", "unevaluatedProperties", "items", "prefixItems",
    "unevaluatedItems",
}  # fmt: skip
"""Keywords that say what an answer may be."""

# Keywords with schemas in them: an object of schemas by name, one schema, a list of schemas.
_OF_NAMES = ("properties", "patternProperties", "$defs", "definitions")
_OF_ONE = ("items", "additionalProperties", "unevaluatedProperties", "unevaluatedItems", "propertyNames")
_OF_SEVERAL = ("anyOf", "oneOf", "allOf", "prefixItems")

_ANNOTATIONS = frozenset(
    {
        "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "format", "contentEncoding",
        "contentMediaType", "$comment", "$id", "$schema", "$anchor",
    }
)  # fmt: skip
"""Keywords that no grammar reads. What stands behind them may be anything."""

_FORMATS = frozenset(
    {
        "email", "date", "time", "date-time", "duration", "ipv4", "ipv6", "hostname", "uuid", "uri", "uri-reference",
        "uri-template", "json-pointer", "relative-json-pointer",
    }
)  # fmt: skip
"""The formats that the grammar holds."""

_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")

_META_SCHEMA = jsonschema_rs.Draft202012Validator({"$ref": "https://json-schema.org/draft/2020-12/schema"}, offline=True)

_LOOK_AHEAD = re.compile(r"(?<!\\)(?:\\\\)*\(\?[=!]")
_CODE_POINT = re.compile(r"\\u([0-9a-fA-F]{4})")

MAX_PATTERNS = 100
"""The most patterns in the schemas of a request."""

MAX_LENGTHS = 1000
"""The most that the lengths of strings in the schemas of a request add up to; see `Totals`."""

_LONG = 200
"""A length from which on a longer one takes a grammar no more time to compile: no token is longer."""

PATTERN_BYTES = 256 * 1024
"""The most memory of a compiled pattern. vLLM compiles in a thread that it cannot end, and a short pattern can take it minutes."""


class Totals:
    """What the schemas of one request have together, as far as it takes time to compile.

    A grammar has a state for each character of a string with a length, and all tokens are tried in each state. Two strings with the same
    lengths share their states.
    """

    def __init__(self) -> None:
        self._patterns = 0
        self._lengths: set[tuple[float, float]] = set()

    def add(self, schema: Mapping[str, Any]) -> str | None:
        """Count what a schema has itself, without those in it. Return why it is too much, None where it is not."""
        by_pattern = schema.get("patternProperties")
        self._patterns += ("pattern" in schema) + (len(by_pattern) if isinstance(by_pattern, dict) else 0)
        if self._patterns > MAX_PATTERNS:
            return f"there are more than {MAX_PATTERNS} patterns"
        if "minLength" not in schema and "maxLength" not in schema:
            return None
        self._lengths.add((schema.get("minLength", 0), schema.get("maxLength", 0)))
        if sum(min(max(lengths), _LONG) for lengths in self._lengths) > MAX_LENGTHS:
            return f"`minLength` and `maxLength` add up to more than {MAX_LENGTHS}; each counts as at most {_LONG}, equal ones once"
        return None


def check_schema(schema: Any, totals: Totals | None = None) -> None:
    """Raise `ValueError`, which says where and why, if the grammar would not hold all of this schema, or take long to compile.

    `totals` counts the schemas of the request together, where it has several.

    `oneOf` is taken though it is held as `anyOf`: branches that exclude each other, as those of a discriminated union, need no more.
    """
    _check_form(schema)
    totals = totals or Totals()
    for where, one in _subschemas(schema, ""):
        if (reason := totals.add(one) or _reason(one)) is not None:
            message = f"{where.lstrip('.') or 'the schema'}: {reason}"
            raise ValueError(message)


def for_grammar(schema: Any) -> Any:
    """Return a schema without the formats that the grammar does not know: they are annotations, and vLLM refuses them."""
    schema = copy.deepcopy(schema)
    for _, one in list(_subschemas(schema, "")):
        if _has_unknown_format(one):
            del one["format"]
    return schema


def _has_unknown_format(schema: Mapping[str, Any]) -> bool:
    form = schema.get("format")
    return form is not None and not (isinstance(form, str) and form in _FORMATS)


def _check_form(schema: Any) -> None:
    """Raise `ValueError` for what is not a valid JSON schema, such as one with an unknown type."""
    for error in _META_SCHEMA.iter_errors(schema):
        path = [str(part) for part in error.instance_path]
        *before, last = path or [""]
        if last in _ANNOTATIONS and before[-1:] not in [[name] for name in _OF_NAMES]:
            continue
        reason = f"not a JSON schema: {error.message[:200]}"
        if last == "type":
            reason = f"a type is one of {', '.join(_TYPES)}, or a list of these, got {str(error.instance)[:100]!r}"
        message = f"{'.'.join(path) or 'the schema'}: {reason}"
        raise ValueError(message)


def check_pattern(pattern: str) -> None:
    """Raise `ValueError` if the grammar would leave out a part of this regular expression, or it would be too large."""
    if (reason := _unheld_pattern(pattern)) is not None:
        raise ValueError(reason)


@lru_cache(maxsize=4 * MAX_PATTERNS)
def _unheld_pattern(pattern: str) -> str | None:
    if _LOOK_AHEAD.search(pattern):
        return "look-ahead in a pattern is not supported"
    options = re2.Options()
    options.max_mem, options.log_errors = PATTERN_BYTES, False
    try:
        re2.compile(_CODE_POINT.sub(r"\\x{\1}", pattern), options)
    except re2.error as error:
        return f"the pattern is broken, too large, or has what linear time does not allow: {str(error)[:200]}"
    return None


def parsed(text: str) -> Any:
    """Return the value of a schema that was sent as text, or raise `ValueError`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        message = "is not valid JSON"
        raise ValueError(message) from None


def _subschemas(value: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each schema within a schema, with its place. Values of `enum`, `default` and the like hold none."""
    if not isinstance(value, dict):
        return
    yield where, value
    for keyword in _OF_NAMES:
        if isinstance(named := value.get(keyword), dict):
            for name, one in named.items():
                yield from _subschemas(one, f"{where}.{keyword}.{name}")
    for keyword in _OF_ONE:
        yield from _subschemas(value.get(keyword), f"{where}.{keyword}")
    for keyword in _OF_SEVERAL:
        if isinstance(several := value.get(keyword), list):
            for number, one in enumerate(several):
                yield from _subschemas(one, f"{where}.{keyword}.{number}")


def _reason(schema: Mapping[str, Any]) -> str | None:
    """Return why the grammar would not hold this schema, apart from the schemas in it; None if it holds it."""
    checks = (_unheld_keyword, _unheld_beside, _unheld_without_type, _unheld_reference, _unheld_string, _unheld_object)
    return next((reason for check in checks if (reason := check(schema)) is not None), None)


def _unheld_keyword(schema: Mapping[str, Any]) -> str | None:
    keyword = next((one for one in _NEVER_HELD if schema.get(one) not in (None, False)), None)
    if keyword is not None:
        return f"`{keyword}` is not supported, since no answer can be held to it"
    several = schema.get("allOf")
    if isinstance(several, list) and len(several) > 1:
        return "`allOf` of several schemas is not supported; write them as one schema"
    return None


def _unheld_beside(schema: Mapping[str, Any]) -> str | None:
    main = next((one for one in STANDALONE if one in schema), None)
    beside = _ASSERTIONS & schema.keys() - {main}
    if main in ("enum", "const"):
        beside -= {"type"}
    if main is None or not beside:
        return None
    return f"`{min(beside)}` beside `{main}` is not supported; write it into the schema that `{main}` stands for"


def _unheld_without_type(schema: Mapping[str, Any]) -> str | None:
    keyword = next((one for one in _NEEDS_TYPE if one in schema), None)
    return f"`{keyword}` needs `type` beside it" if keyword and schema.get("type") is None else None


def _unheld_reference(schema: Mapping[str, Any]) -> str | None:
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference != "#" and not reference.startswith("#/"):
        return f"`$ref` to {reference[:100]} is not supported; it must begin with `#/`, in the schema itself"
    return None


def _unheld_string(schema: Mapping[str, Any]) -> str | None:
    pattern, form = schema.get("pattern"), None if _has_unknown_format(schema) else schema.get("format")
    if isinstance(pattern, str) and (reason := _unheld_pattern(pattern)) is not None:
        return reason
    bound = next((one for one in ("minLength", "maxLength") if one in schema), None)
    if bound and (pattern is not None or form is not None):
        return f"`{bound}` beside `{'format' if pattern is None else 'pattern'}` is not supported"
    return None


def _unheld_object(schema: Mapping[str, Any]) -> str | None:
    declared, required, by_pattern = schema.get("properties"), schema.get("required"), schema.get("patternProperties")
    names = declared if isinstance(declared, dict) else {}
    missing = [one for one in required if one not in names] if isinstance(required, list) else []
    if missing:
        return f"`required` names {str(missing[0])[:100]!r}, which `properties` does not declare"
    if isinstance(by_pattern, dict) and (declared is not None or len(by_pattern) > 1):
        return "`patternProperties` is supported with one pattern and without `properties`"
    if "propertyNames" in schema and (declared is not None or by_pattern is not None):
        return "`propertyNames` beside `properties` or `patternProperties` is not supported"
    return next((reason for one in by_pattern or () if (reason := _unheld_pattern(one)) is not None), None)
