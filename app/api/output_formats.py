"""The formats that an answer must follow: OpenAI's `response_format`, and vLLM's `structured_outputs`."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from app.api.body import Body
from app.api.json_schemas import check_pattern, check_schema, for_grammar, parsed
from app.api.messages import Name
from strategies.core.values import AnswerKind

MAX_SCHEMA_CHARS = 65_536
MAX_JSON_DEPTH = 32

Pattern = Annotated[str, Field(max_length=MAX_SCHEMA_CHARS)]

_GUIDED = {"guided_json": "json", "guided_regex": "regex", "guided_choice": "choice", "guided_grammar": "grammar"}


class JsonSchema(Body):
    """The JSON schema that an answer must follow."""

    name: Name = "answer"
    description: str | None = None
    json_schema: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None

    @field_validator("json_schema")
    @classmethod
    def _check_that_it_is_held(cls, schema: dict[str, Any]) -> dict[str, Any]:
        check_schema(schema)
        return for_grammar(schema)  # type: ignore[no-any-return] # a dictionary, as the schema is


class ResponseFormat(Body):
    """OpenAI's `response_format`: free text, any JSON object, or JSON that follows a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _check_schema(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            message = "json_schema is needed with type json_schema, and only then"
            raise ValueError(message)
        return self


class StructuredOutputs(Body):
    """vLLM's `structured_outputs`: exactly one form that the answer must have."""

    json_schema: Annotated[dict[str, Any] | str | None, Field(alias="json")] = None
    regex: Pattern | None = None
    choice: Annotated[list[Annotated[str, Field(max_length=4096)]], Field(min_length=1, max_length=1024)] | None = None
    grammar: Pattern | None = None
    json_object: bool | None = None
    structural_tag: Pattern | None = None
    disable_any_whitespace: bool = False
    disable_additional_properties: bool = False
    whitespace_pattern: Pattern | None = None

    @model_validator(mode="after")
    def _check_one_form(self) -> "StructuredOutputs":
        forms = (self.json_schema, self.regex, self.choice, self.grammar, self.json_object, self.structural_tag)
        if sum(form is not None for form in forms) != 1:
            message = "needs exactly one of json, regex, choice, grammar, json_object and structural_tag"
            raise ValueError(message)
        return self

    @field_validator("json_schema")
    @classmethod
    def _check_that_it_is_held(cls, schema: dict[str, Any] | str | None) -> dict[str, Any] | str | None:
        given: Any = check_size(parsed(schema)) if isinstance(schema, str) else schema
        check_schema(given)
        held: dict[str, Any] | None = for_grammar(given)
        return held

    @field_validator("regex")
    @classmethod
    def _check_pattern(cls, pattern: str | None) -> str | None:
        check_pattern(pattern or "")
        return pattern

    @property
    def kind(self) -> AnswerKind:
        """How two answers of this form are compared."""
        return AnswerKind.JSON if self.json_schema is not None or self.json_object else AnswerKind.TEXT


def from_guided(data: dict[str, Any]) -> dict[str, Any]:
    """Return a body with vLLM's former fields `guided_…` rewritten to `structured_outputs`."""
    guided = {new: data.pop(old) for old, new in _GUIDED.items() if old in data}
    return {**data, "structured_outputs": {**guided, **_as_dict(data.get("structured_outputs"))}} if guided else data


def _as_dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def check_size(value: object) -> object:
    """Limit the size and depth of a schema, before a grammar is compiled from it. Raises `ValueError`."""
    # The depth comes first: `json.dumps` fails on what is nested too deep.
    if value is not None and (depth(value) > MAX_JSON_DEPTH or len(json.dumps(value)) > MAX_SCHEMA_CHARS):
        message = f"larger than {MAX_SCHEMA_CHARS} characters or deeper than {MAX_JSON_DEPTH} levels"
        raise ValueError(message)
    return value


def depth(value: object, level: int = 1) -> int:
    """Return how deep lists and objects are nested, at most one more than `MAX_JSON_DEPTH`."""
    if level > MAX_JSON_DEPTH or not isinstance(value, dict | list):
        return level
    children = value.values() if isinstance(value, dict) else value
    return max((depth(child, level + 1) for child in children), default=level)
