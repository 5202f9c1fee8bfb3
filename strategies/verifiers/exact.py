"""Rules that a client writes: a pattern, a JSON schema, a number. They do not err, so a complete answer scores 1 or 0.

What the client writes is untrusted. Patterns are matched in linear time; schemas reach nothing but themselves, and are compiled and
applied only in the killable worker process, because a short one can ask for exponential work.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import jsonschema_rs
import re2
from pydantic import Field

from strategies.answers.expressions import exact
from strategies.answers.reading import number_of, parse_json, read_answer
from strategies.core.context import StrategyContext
from strategies.core.errors import UnsupportedTask, VerifierFailed
from strategies.core.parameters import Params
from strategies.core.ports import Model
from strategies.core.values import AnswerKind, Candidate, Task
from strategies.core.verifier import Verifier

UNKNOWN = 0.5
"""For an answer that is not complete: it may still become right."""

PATTERN_BYTES = 256 * 1024
MAX_SCHEMA_CHARS = 65_536
MAX_SCHEMA_DEPTH = 32
MAX_SCHEMA_PATTERNS = 100
DRAFTS = frozenset(
    {f"http://json-schema.org/draft-0{number}/schema" for number in (4, 6, 7)}
    | {f"https://json-schema.org/draft/{year}/schema" for year in ("2019-09", "2020-12")}
)
"""What `$schema` may be: jsonschema_rs looks up any other on the network, even only to check a schema by it."""


class RegexParams(Params):
    """`{"regex": pattern}`."""

    regex: Annotated[str, Field(max_length=1000, description="found anywhere in the answer; anchor it with `^` and `$`")]


class RegexVerifier(Verifier):
    """1.0 when the pattern is found. Raises `UnsupportedTask` for a pattern that is broken or grows too large."""

    name = "regex"
    summary = "Exact: whether a pattern (RE2 syntax) is found in the answer."
    Params = RegexParams
    is_exact = True

    def __init__(self, params: RegexParams, context: StrategyContext) -> None:
        super().__init__(params, context)
        options = re2.Options()
        options.max_mem = PATTERN_BYTES
        options.log_errors = False
        options.never_capture = True
        try:
            self._pattern = re2.compile(params.regex.encode(), options)
        except (re2.error, UnicodeEncodeError) as error:
            reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else "not Unicode"
            raise UnsupportedTask(f"regex is not a pattern that RE2 takes: {reason}", parameter="verifier") from error

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:  # noqa: ARG002
        """1.0 or 0.0; 0.5 for an incomplete answer."""
        texts = [task.read(candidate).encode(errors="replace") for candidate in candidates if candidate.is_complete]
        # RE2 lets go of the interpreter while it searches, which for large patterns and long answers takes seconds
        found = await asyncio.to_thread(lambda: [self._pattern.search(text) is not None for text in texts])
        return _spread(candidates, found)


class NumberParams(Params):
    """`{"number": number}`, possibly with a `tolerance`."""

    number: Annotated[str, Field(max_length=100)] | int | float = Field(description='as `"1,234.5"`, `"3/4"` or `42`')
    tolerance: Annotated[int | float, Field(ge=0, description="the largest absolute difference")] = 0


class NumberVerifier(Verifier):
    """1.0 when the final answer is the number. Raises `UnsupportedTask` for a text that is not a number."""

    name = "number"
    summary = "Exact: whether the answer is that number, within a tolerance."
    Params = NumberParams
    is_exact = True

    def __init__(self, params: NumberParams, context: StrategyContext) -> None:
        super().__init__(params, context)
        number = number_of(params.number) if isinstance(params.number, str) else exact(params.number)
        if number is None:
            raise UnsupportedTask("number is not a number", parameter="verifier")
        self._number = number
        self._tolerance = exact(params.tolerance)

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:  # noqa: ARG002
        """1.0 or 0.0; 0.5 for an incomplete answer."""
        return _spread(candidates, [self._is_right(task.read(one)) for one in candidates if one.is_complete])

    def _is_right(self, text: str) -> bool:
        answer = read_answer(AnswerKind.MATH, text)
        number = number_of(answer) if answer is not None else None
        return number is not None and abs(number - self._number) <= self._tolerance


class SchemaParams(Params):
    """`{"json_schema": schema}`."""

    json_schema: Annotated[dict[str, Any], Field(description="at most 65,536 characters; `$ref` within itself only")]


class SchemaVerifier(Verifier):
    """1.0 when the answer is JSON and valid.

    Raises `UnsupportedTask` for a schema that is broken, is too large, or refers to anything outside itself.
    """

    name = "json_schema"
    summary = "Exact: whether the answer is JSON, alone or in its last fence, that is valid by a schema."
    Params = SchemaParams
    is_exact = True

    def __init__(self, params: SchemaParams, context: StrategyContext) -> None:
        super().__init__(params, context)
        self._schema = _checked(params.json_schema)
        self._is_hopeless = False

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:  # noqa: ARG002
        """1.0 or 0.0; 0.5 for an incomplete answer. Raises `VerifierFailed` when the schema cannot be applied, or not in time."""
        texts = [task.read(candidate) for candidate in candidates if candidate.is_complete]
        if not texts:
            return _spread(candidates, [])
        if self._is_hopeless:
            raise VerifierFailed("the JSON schema takes too long to apply")
        try:
            return _spread(candidates, await self.context.equivalence.isolated(_are_valid, self._schema, texts))
        except TimeoutError as error:
            self._is_hopeless = True
            raise VerifierFailed("the JSON schema takes too long to apply") from error
        except ValueError as error:
            raise VerifierFailed(f"the JSON schema cannot be applied: {str(error)[:200]}") from error


def _spread(candidates: Sequence[Candidate], verdicts: Sequence[bool]) -> list[float]:
    """Scores for all candidates from the verdicts on the complete ones."""
    left = iter(verdicts)
    return [float(next(left)) if candidate.is_complete else UNKNOWN for candidate in candidates]


def _checked(schema: dict[str, Any]) -> str:
    """Return the schema as text; raises `UnsupportedTask`."""
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
    """Only what stands in the schema itself may be referred to, and pointers must lead somewhere."""
    for one in _objects(schema):
        if isinstance(draft := one.get("$schema"), str) and draft.removesuffix("#") not in DRAFTS:
            raise _refused(f"is of a draft that is not known: {draft[:100]}")
        for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
            reference = one.get(keyword)
            if isinstance(reference, str) and not reference.startswith("#"):
                raise _refused(f"refers to {reference[:100]}, which is outside itself")
            if isinstance(reference, str) and reference.startswith("#/") and not _leads_somewhere(schema, reference):
                raise _refused(f"refers to {reference[:100]}, which is not there")


def _leads_somewhere(value: Any, pointer: str) -> bool:
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
    """Runs in the worker, which hostile schemas may take down with them. Raises nothing but `ValueError`."""
    try:
        validator = _compiled(schema)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise ValueError(str(error)) from None  # theirs cannot be pickled, which would break the pool for everybody
    return [_is_valid(validator, text) for text in texts]


def _is_valid(validator: Any, text: str) -> bool:
    try:
        return bool(validator.is_valid(parse_json(text)))
    except ValueError:  # no JSON, or none that can be looked into
        return False
