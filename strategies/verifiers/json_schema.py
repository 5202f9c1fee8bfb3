"""Scores by a JSON schema that the client writes.

What a client writes is not trusted. A schema reaches nothing but itself. It is compiled and applied only in the worker process that can be
killed, because a short schema can ask for exponential work.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import jsonschema_rs
from pydantic import Field

from strategies.answers.reading import parse_json
from strategies.core.errors import UnsupportedTask, VerifierFailed
from strategies.core.parameters import Params
from strategies.core.ports import Model
from strategies.core.values import Candidate, Task
from strategies.core.verifier import StrategyContext, Verifier
from strategies.verifiers.exact import exact_scores

PATTERN_BYTES = 256 * 1024
"""The most memory of a compiled pattern within a schema."""

MAX_SCHEMA_CHARS = 65_536
MAX_SCHEMA_DEPTH = 32
MAX_SCHEMA_PATTERNS = 100
DRAFTS = frozenset(
    {f"http://json-schema.org/draft-0{number}/schema" for number in (4, 6, 7)}
    | {f"https://json-schema.org/draft/{year}/schema" for year in ("2019-09", "2020-12")}
)
"""What `$schema` may be. jsonschema_rs looks up any other on the network, even when it only checks the schema."""


class SchemaParams(Params):
    """`{"json_schema": schema}`."""

    json_schema: Annotated[dict[str, Any], Field(description="at most 65,536 characters; `$ref` within itself only")]


class SchemaVerifier(Verifier):
    """1.0 if the answer is JSON and valid.

    Raises `UnsupportedTask` for a schema that is broken, is too large, or refers to anything outside itself.
    """

    name = "json_schema"
    summary = "Exact: whether the answer is JSON, alone or in its last fence, that is valid by a schema."
    Params = SchemaParams
    is_exact = True
    ranks_steps = False

    def __init__(self, params: SchemaParams, context: StrategyContext) -> None:
        super().__init__(params, context)
        self._schema = _checked(params.json_schema)
        self._is_too_slow = False  # once it has been, it is not tried again in this run

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:  # noqa: ARG002
        """Return 1.0 or 0.0 each; 0.5 for an answer that is not complete.

        Raises `VerifierFailed` if the schema cannot be applied, or not in time.
        """
        texts = [task.read(candidate) for candidate in candidates if candidate.is_complete]
        if not texts:
            return exact_scores(candidates, [])
        if self._is_too_slow:
            raise VerifierFailed("the JSON schema takes too long to apply")
        try:
            return exact_scores(candidates, await self.context.equivalence.isolated(_are_valid, self._schema, texts))
        except TimeoutError as error:
            self._is_too_slow = True
            raise VerifierFailed("the JSON schema takes too long to apply") from error
        except ValueError as error:
            raise VerifierFailed(f"the JSON schema cannot be applied: {str(error)[:200]}") from error


def _checked(schema: dict[str, Any]) -> str:
    """Return the schema as text; raises `UnsupportedTask` if it cannot be used."""
    if _depth_exceeds(schema, MAX_SCHEMA_DEPTH):
        raise _refused(f"is nested deeper than {MAX_SCHEMA_DEPTH} levels")
    text = json.dumps(schema)
    if len(text) > MAX_SCHEMA_CHARS:
        raise _refused(f"is longer than {MAX_SCHEMA_CHARS} characters")
    _check_references(schema)
    _check_patterns(schema)
    try:
        jsonschema_rs.meta.validate(schema)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise _refused(f"is not a schema: {str(error)[:200]}") from error
    return text


def _refused(reason: str) -> UnsupportedTask:
    return UnsupportedTask(f"json_schema {reason}", parameter="verifier")


def _depth_exceeds(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [child for parent in level for child in _children(parent)]
    return any(isinstance(one, dict | list) for one in level)


def _children(value: Any) -> Sequence[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()


def _objects(schema: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(schema, dict):
        yield schema
    for child in _children(schema):
        yield from _objects(child)


def _check_references(schema: Mapping[str, Any]) -> None:
    """Raise unless all references stay within the schema and every pointer leads to something in it."""
    for one in _objects(schema):
        if isinstance(draft := one.get("$schema"), str) and draft.removesuffix("#") not in DRAFTS:
            raise _refused(f"is of a draft that is not known: {draft[:100]}")
        for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
            reference = one.get(keyword)
            if isinstance(reference, str) and not reference.startswith("#"):
                raise _refused(f"refers to {reference[:100]}, which is outside itself")
            if isinstance(reference, str) and reference.startswith("#/") and not _is_pointer_into(schema, reference):
                raise _refused(f"refers to {reference[:100]}, which is not there")


def _is_pointer_into(value: Any, pointer: str) -> bool:
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and len(key) < 6 and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return False
    return True


def _check_patterns(schema: Mapping[str, Any]) -> None:
    patterns = [one["pattern"] for one in _objects(schema) if isinstance(one.get("pattern"), str)]
    for one in _objects(schema):
        keyed = one.get("patternProperties")
        patterns.extend(keyed if isinstance(keyed, dict) else ())
    if len(patterns) > MAX_SCHEMA_PATTERNS:
        raise _refused(f"has more than {MAX_SCHEMA_PATTERNS} patterns")
    for pattern in patterns:
        try:
            _compiled({"pattern": pattern})
        except ValueError as error:
            raise _refused(f"has a pattern that is broken, too large or not linear: {pattern[:100]}") from error


def _compiled(schema: dict[str, Any] | str) -> Any:
    options = jsonschema_rs.RegexOptions(size_limit=PATTERN_BYTES, dfa_size_limit=PATTERN_BYTES)
    return jsonschema_rs.validator_for(schema, offline=True, pattern_options=options)


def _are_valid(schema: str, texts: Sequence[str]) -> list[bool]:
    """Return which texts are valid. Runs in the worker process, which a hostile schema may end. Raises only `ValueError`."""
    try:
        validator = _compiled(schema)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise ValueError(
            str(error)
        ) from None  # jsonschema_rs' own errors cannot be pickled: they would break the pool for all requests
    return [_is_valid(validator, text) for text in texts]


def _is_valid(validator: Any, text: str) -> bool:
    try:
        return bool(validator.is_valid(parse_json(text)))
    except ValueError:  # it is not JSON, or too large to read
        return False
