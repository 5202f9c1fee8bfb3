"""What the grammar cannot hold of a schema is refused by name. What is accepted, the grammar holds."""

import json
import re
from typing import Any

import pytest
import xgrammar

from app.api.json_schemas import Totals, check_pattern, check_schema, for_grammar
from strategies.core.values import AnswerKind

TEXT, NUMBER = {"type": "string"}, {"type": "integer"}
UNHELD: list[tuple[dict[str, Any], str]] = [
    ({"not": TEXT}, "`not`"),
    ({"allOf": [TEXT, {"enum": ["a", "b"]}]}, "`allOf`"),
    ({"allOf": [TEXT], "maxLength": 3}, "`maxLength` beside `allOf`"),
    ({"type": "object", "anyOf": [{"required": []}]}, "`type` beside `anyOf`"),
    ({"$ref": "#/$defs/a", "minimum": 1, "$defs": {"a": NUMBER}}, "`minimum` beside `$ref`"),
    ({"$ref": "https://example.com/a.json"}, "`$ref` to https://example.com/a.json"),
    ({"$ref": "#anchor"}, "`$ref` to #anchor"),
    ({"if": {"type": "string"}, "then": {"minLength": 1, "type": "string"}}, "`if`"),
    ({"type": "object", "dependentRequired": {"a": ["b"]}}, "`dependentRequired`"),
    ({"type": "object", "properties": {"a": NUMBER}, "required": ["b"]}, "`required` names 'b'"),
    ({"type": "object", "required": ["b"]}, "`required` names 'b'"),
    ({"type": "array", "items": NUMBER, "uniqueItems": True}, "`uniqueItems`"),
    ({"type": "array", "contains": NUMBER}, "`contains`"),
    ({"type": "number", "multipleOf": 5}, "`multipleOf`"),
    ({"minimum": 5}, "`minimum` needs `type`"),
    ({"pattern": "^a$"}, "`pattern` needs `type`"),
    ({"type": "string", "pattern": "^(?=b)[ab]+$"}, "look-ahead"),
    ({"type": "string", "pattern": "^(?!b)[ab]+$"}, "look-ahead"),
    ({"type": "string", "pattern": "^a+$", "maxLength": 2}, "`maxLength` beside `pattern`"),
    ({"type": "object", "properties": {"b": NUMBER}, "patternProperties": {"^a": NUMBER}}, "`patternProperties`"),
]
HELD: list[tuple[dict[str, Any], Any, Any]] = [
    ({"allOf": [TEXT], "description": "annotations may stand beside it"}, 1, "a"),
    ({"anyOf": [TEXT, {"type": "null"}], "default": None, "title": "A"}, 1, "a"),
    ({"$defs": {"a": NUMBER}, "$ref": "#/$defs/a"}, "a", 1),
    ({"type": "object", "properties": {"next": {"$ref": "#"}}, "additionalProperties": False}, {"next": 1}, {"next": {}}),
    ({"type": "object", "properties": {"not": NUMBER}, "required": ["not"], "additionalProperties": False}, {}, {"not": 1}),
    ({"type": "string", "enum": ["a", "b"]}, "c", "a"),
    ({"const": "a", "type": "string"}, "b", "a"),
    ({"type": ["integer", "null"], "minimum": 5}, 3, 5),
    ({"type": "array", "items": NUMBER, "minItems": 2, "uniqueItems": False}, [1], [1, 2]),
    ({"type": "array", "prefixItems": [NUMBER, TEXT], "minItems": 2, "items": False}, [1], [1, "a"]),
    ({"type": "string", "pattern": "^a\\(?=+$"}, "b", "a(=="),
    ({"type": "string", "format": "email"}, "a", "a@example.com"),
    ({"type": "string", "maxLength": 2}, "aaa", "a"),
    ({"type": "object", "patternProperties": {"^a": NUMBER}, "additionalProperties": False}, {"a": "x"}, {"a": 1}),
]


@pytest.mark.parametrize(("schema", "reason"), UNHELD, ids=[reason for _, reason in UNHELD])
def test_what_the_grammar_cannot_hold_is_refused_by_name(schema: dict[str, Any], reason: str) -> None:
    """Wherever in the schema it stands; the message says where."""
    nested = {"type": "object", "properties": {"x": {"type": "array", "items": {"anyOf": [TEXT, schema]}}}}
    for whole, where in (schema, "the schema"), (nested, "properties.x.items.anyOf.1"), ({"$defs": {"d": schema}}, "$defs.d"):
        with pytest.raises(ValueError, match=re.escape(f"{where}: ") + ".*" + re.escape(reason)):
            check_schema(whole)


@pytest.mark.parametrize(("schema", "bad", "good"), HELD, ids=[json.dumps(schema) for schema, _, _ in HELD])
def test_what_is_accepted_is_held(schema: dict[str, Any], bad: object, good: object) -> None:
    """By vLLM's grammar itself."""
    check_schema(schema)
    bytes_as_tokens = xgrammar.TokenizerInfo([*(bytes([byte]) for byte in range(256)), b"<end>"], stop_token_ids=[256])
    grammar = xgrammar.GrammarCompiler(bytes_as_tokens).compile_json_schema(schema)

    def takes(value: object) -> bool:
        matcher = xgrammar.GrammarMatcher(grammar)
        return matcher.accept_string(json.dumps(value)) and matcher.accept_token(256)

    assert not takes(bad)
    assert takes(good)


@pytest.mark.parametrize("pattern", ["(.{1,3000}){1,3000}", "a" * 60_000, "(" * 20_000, "(a|b)\\1", "(?=a)"])
def test_patterns_that_would_occupy_the_engine_are_refused(pattern: str) -> None:
    """VLLM could not end their compilation."""
    with pytest.raises(ValueError, match="pattern"):
        check_pattern(pattern)
    with pytest.raises(ValueError, match="pattern"):
        check_schema({"type": "string", "pattern": pattern})


def properties(*schemas: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {f"p{number}": schema for number, schema in enumerate(schemas)}}


def by_pattern(number: int) -> dict[str, Any]:
    return {"type": "object", "patternProperties": {f"^{number}$": NUMBER}}


def test_patterns_of_names_count_too() -> None:
    check_schema(properties(*map(by_pattern, range(100))))
    with pytest.raises(ValueError, match="p100: there are more than 100 patterns"):
        check_schema(properties(*map(by_pattern, range(101))))


def test_the_patterns_and_lengths_of_all_tools_count_together() -> None:
    totals = Totals()
    check_schema(properties(*map(by_pattern, range(60))), totals)
    with pytest.raises(ValueError, match="100 patterns"):
        check_schema(properties(*map(by_pattern, range(60))), totals)


def test_lengths_that_take_long_to_compile_are_refused() -> None:
    """Each different length is compiled anew, and one above that of all tokens takes no longer."""
    check_schema(properties(*[{"type": "string", "maxLength": 2000}] * 50, {"type": "array", "maxItems": 10_000}))
    check_schema(properties(*({"type": "string", "maxLength": length} for length in (20, 50, 80, 100, 255, 1000, 4000))))
    with pytest.raises(ValueError, match="p5: `minLength` and `maxLength`"):
        check_schema(properties(*({"type": "string", "minLength": 1, "maxLength": 2000 + number} for number in range(20))))


@pytest.mark.parametrize(
    "pattern", [r"^\d{4}-\d{2}-\d{2}$", r"[\u00e9\/]+", r"^(?:[a-z]+\.)*[a-z]{2,63}$", "^[^@]+@[^@]+$", ""]
)
def test_usual_patterns_are_taken(pattern: str) -> None:
    """Those of dates and addresses, with escapes as in JavaScript."""
    check_pattern(pattern)


@pytest.mark.parametrize(
    ("schema", "where", "reason"),
    [
        ({"type": "strng"}, "type", "a type is one of array, boolean, integer, null, number, object, string, or a list of"),
        ({"type": ["string", "nil"]}, "type", "\"['string', 'nil']\""),
        ({"type": "array", "items": [TEXT]}, "items", "not a JSON schema"),
        ({"type": "integer", "minimum": 3, "exclusiveMinimum": True}, "exclusiveMinimum", "not of type"),
        ({"type": "object", "required": "a"}, "required", "not of type"),
        ({"type": "object", "properties": {"title": 3}}, "properties.title", "not of types"),
    ],
)
def test_what_is_no_schema_is_refused_with_its_place(schema: dict[str, Any], where: str, reason: str) -> None:
    """Before the engine is asked, whose words tell nothing."""
    for whole, path in (schema, where), ({"type": "object", "properties": {"x": schema}}, f"properties.x.{where}"):
        with pytest.raises(ValueError, match=re.escape(f"{path}: ") + ".*" + re.escape(reason)):
            check_schema(whole)


def test_annotations_may_be_anything() -> None:
    """The grammar does not read them."""
    check_schema({"type": "string", "title": 3, "examples": "a", "deprecated": "yes", "$schema": "http://127.0.0.1:9/x"})


@pytest.mark.parametrize("form", ["path", "binary", "int32", 3])
def test_an_unknown_format_is_an_annotation(form: object) -> None:
    """As JSON Schema says. The engine does not see it, so lengths may stand beside it; a property of that name stays."""
    unknown = {"type": "string", "format": form, "maxLength": 2}
    schema = {"type": "object", "properties": {"format": unknown, "x": {"anyOf": [unknown]}}, "required": ["format"]}
    check_schema(schema)
    held = {"type": "string", "maxLength": 2}
    assert for_grammar(schema) == {**schema, "properties": {"format": held, "x": {"anyOf": [held]}}}
    assert for_grammar({"type": "string", "format": "email"}) == {"type": "string", "format": "email"}


@pytest.mark.anyio
async def test_the_engine_gets_the_schema_without_unknown_formats(serve) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "format": "path"}}}
    held = {"type": "object", "properties": {"a": {"type": "string"}}}
    async with serve("{}") as served:
        await served.chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
        await served.chat(structured_outputs={"json": json.dumps(schema)})
        first, second = (branch.prompt.request for branch in served.engine.branches[:: len(served.engine.branches) - 1])
    assert first["response_format"]["json_schema"]["schema"] == held
    assert second["structured_outputs"]["json"] == held


def test_values_are_no_schemas() -> None:
    """What stands in `enum`, `const`, `default` and `examples` may look like a keyword."""
    check_schema({"enum": [{"not": 1}], "default": {"not": 1}})
    check_schema({"const": {"required": ["a"]}, "examples": [{"uniqueItems": True}]})


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fields", "parameter"),
    [
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": TEXT}}}},
            "response_format.",
        ),
        ({"structured_outputs": {"json": {"not": TEXT}}}, "structured_outputs.json"),
        ({"structured_outputs": {"json": '{"not": {"type": "string"}}'}}, "structured_outputs.json"),
        ({"structured_outputs": {"json": "[" * 60_000}}, "structured_outputs.json"),
        ({"structured_outputs": {"regex": "^(?!a)"}}, "structured_outputs.regex"),
        ({"guided_json": {"not": TEXT}}, "structured_outputs.json"),
    ],
)
async def test_each_field_with_a_schema_is_checked(serve, fields: dict[str, Any], parameter: str) -> None:
    """The refusal names the field."""
    async with serve("{}") as served:
        response = await served.chat(**fields)
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith(parameter)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("form", "kind"),
    [
        ({"json": {"type": "object"}}, AnswerKind.JSON),
        ({"json_object": True}, AnswerKind.JSON),
        ({"choice": ["red", "blue"]}, AnswerKind.TEXT),
        ({"regex": "[a-z]+"}, AnswerKind.TEXT),
        ({"grammar": 'root ::= "a"'}, AnswerKind.TEXT),
    ],
)
async def test_answers_of_a_form_can_be_compared(serve, form: dict[str, Any], kind: AnswerKind) -> None:
    """So a vote has a meaning, whatever the question is."""
    async with serve(["red", "blue", "red"]) as served:
        reply = (await served.chat(structured_outputs=form, ponder={"strategy": "self_consistency", "n": 3})).json()
    assert reply["ponder"]["answer_kind"] == kind
    assert reply["choices"][0]["message"]["content"] == "red"
