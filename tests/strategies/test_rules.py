"""Rules of clients: what they accept, what they refuse, and that nothing a client writes can hurt."""

import json
import socket
import threading

import pytest
from pydantic import TypeAdapter, ValidationError

from strategies.answers.reading import read_answer
from strategies.core.errors import UnsupportedTask, VerifierFailed
from strategies.core.values import AnswerKind
from strategies.verifiers import AnyVerifier

pytestmark = pytest.mark.anyio

CHOICE = TypeAdapter(AnyVerifier)


@pytest.fixture
def score(says, task, verifier_of):
    """`score(rule, *texts, finish=…)`: the scores."""

    async def judge(rule: dict, *texts: str, finish: str = "stop") -> list[float]:
        return await verifier_of(rule).score(task(), [says(i, text, finish=finish) for i, text in enumerate(texts)], None)

    return judge


@pytest.mark.parametrize(
    ("rule", "right", "wrong"),
    [
        ({"regex": "4[12]"}, ["42", "it is 41, I think", "a\n42"], ["", "43", "4 2"]),
        ({"regex": "^\\d+$"}, ["42"], ["is 42", "4.2", "4\n2"]),
        ({"regex": "(?i)yes|no"}, ["Yes.", "NO"], ["perhaps"]),
        ({"regex": "^\N{LATIN SMALL LETTER E WITH ACUTE}.$"}, ["\N{LATIN SMALL LETTER E WITH ACUTE}\N{SNOWMAN}"], ["e", "\ud800"]),
        ({"regex": ""}, ["", "anything"], []),
        ({"number": 42}, ["42", "So the answer is 42.", "\\boxed{42}", "42.0", "84/2"], ["", "43", "none", "42 or rather 41"]),
        ({"number": "42"}, ["42"], ["-42"]),
        ({"number": "1,234.50"}, ["1234.5", "$1,234.50"], ["1,234"]),
        ({"number": "3/4"}, ["0.75", "\\boxed{\\frac{3}{4}}"], ["0.7500001"]),
        ({"number": 0.1}, ["0.1", "1/10"], ["0.10000000000000001"]),
        ({"number": -2, "tolerance": 0.5}, ["-2", "-2.5", "-1.5"], ["2", "-2.51", "-1.49"]),
        ({"number": "1/3", "tolerance": 0.001}, ["0.333"], ["0.33"]),
        ({"json_schema": {}}, ["{}", "1", "null", ' [1, "a"]\n'], ["", "yes", "{", "NaN", "[" * 5000]),
        ({"json_schema": {"type": "integer"}}, ["1", "1.0", "```json\n2\n```", "So:\n```\n3```\ndone"], ["1.5", '"1"', "true"]),
        (
            {"json_schema": {"required": ["a"], "properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"minimum": 3}}}},
            ['{"a": 3}', '```json\n{"a": 4}\n```'],
            ["{}", '{"a": 2}'],
        ),
        ({"json_schema": {"pattern": "^a+$"}}, ['"aa"', "7"], ['"ab"', '"\\ud800"']),
        ({"json_schema": {"items": {"$ref": "#"}, "type": "array"}}, ["[]", "[[], [[]]]"], ["[[1]]"]),
        ({"json_schema": {"allOf": [{"$ref": "#"}]}}, ["1"], []),
        ({"json_schema": {"$ref": "#s", "$defs": {"a": {"$anchor": "s", "type": "string"}}}}, ['"a"'], ["1"]),
        ({"json_schema": {"$schema": "http://json-schema.org/draft-07/schema#", "type": "null"}}, ["null"], ["1"]),
    ],
)  # fmt: skip
async def test_what_rules_accept(score, rule, right, wrong) -> None:
    """1 or 0 for complete answers, and 0.5 for others, which may still become right."""
    assert await score(rule, *right, *wrong) == [1.0] * len(right) + [0.0] * len(wrong)
    for finish in ("step", "length", "abort"):
        assert await score(rule, *right, *wrong, finish=finish) == [0.5] * len(right + wrong)


async def test_complete_and_incomplete_together(verifier_of, says, task) -> None:
    """Scores come in the order of the candidates."""
    candidates = [says(0, "1", finish="step"), says(1, "2"), says(2, "1"), says(3, "2", finish="abort"), says(4, "2")]
    for rule in ({"regex": "2"}, {"number": 2}, {"json_schema": {"const": 2}}):
        verifier = verifier_of(rule)
        assert await verifier.score(task(), candidates, None) == [0.5, 1.0, 0.0, 0.5, 1.0]
        assert (verifier.name, verifier.is_exact, verifier.num_logprobs) == (next(iter(rule)), True, None)


def nested(levels: int) -> dict:
    schema: dict = {}
    for _ in range(levels - 1):
        schema = {"not": schema}
    return schema


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"regex": "(a"}, "missing"),
        ({"regex": "(?=a)"}, "invalid perl operator"),
        ({"regex": r"(a)\1"}, "invalid escape"),
        ({"regex": "(((a{1,99}){1,99}){1,99}){1,99}"}, "repetition"),
        ({"regex": r"(\pL{0,30}){0,30}"}, "large"),
        ({"number": "forty-two"}, "number is not a number"),
        ({"number": "1/0"}, "number is not a number"),
        ({"json_schema": {"type": "nothing"}}, "not a schema"),
        ({"json_schema": {"properties": []}}, "not a schema"),
        ({"json_schema": {"$schema": 1}}, "not a schema"),
        ({"json_schema": {"$schema": ""}}, "draft that is not known"),
        ({"json_schema": {"$schema": "http://json-schema.org/draft-04/schema#", "exclusiveMinimum": 1}}, "not a schema"),
        ({"json_schema": {"$schema": "http://127.0.0.1:9/meta"}}, "draft that is not known"),
        ({"json_schema": {"pattern": "(a"}}, "pattern that is broken"),
        ({"json_schema": {"patternProperties": {"(?<=a)": {}}}}, "pattern that is broken"),
        ({"json_schema": {"pattern": "a" * 60_000}}, "pattern that is broken"),
        ({"json_schema": {"pattern": "(" * 20_000 + ")" * 20_000}}, "pattern that is broken"),
        ({"json_schema": {"pattern": "(((a{1,99}){1,99}){1,99}){1,99}"}}, "pattern that is broken"),
        ({"json_schema": {"anyOf": [{"pattern": str(i)} for i in range(101)]}}, "more than 100 patterns"),
        ({"json_schema": {"pattern": "a" * 100_000}}, "longer than 65536 characters"),
        ({"json_schema": {"not": nested(32)}}, "deeper than 32"),
        ({"json_schema": {"not": nested(150)}}, "deeper than 32"),
        ({"json_schema": {"$ref": "#/$defs/a"}}, "not there"),
        ({"json_schema": {"allOf": [{}], "$ref": "#/allOf/1"}}, "not there"),
        ({"json_schema": {"$ref": "other.json"}}, "outside itself"),
    ],
)
def test_broken_rules(verifier_of, rule, reason) -> None:
    """Refused before anything is generated."""
    with pytest.raises(UnsupportedTask, match=reason) as refused:
        verifier_of(rule)
    assert refused.value.parameter == "verifier"
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "rule",
    [
        {"regex": "a" * 1001},
        {"regex": "a" * 100_000},
        {"regex": 1},
        {"regex": "a", "flags": "i"},
        {"number": True},
        {"number": "1" * 101},
        {"number": [1]},
        {"number": 1, "tolerance": -0.1},
        {"number": 1, "tolerance": "1"},
        {"number": float("nan")},
        {"json_schema": True},
        {"json_schema": "{}"},
        {},
    ],
)
def test_rules_of_the_wrong_shape(rule) -> None:
    """Types are not guessed."""
    with pytest.raises(ValidationError):
        CHOICE.validate_python(rule)


def test_a_schema_of_32_levels_is_taken(verifier_of) -> None:
    """The limit itself is allowed."""
    verifier_of({"json_schema": nested(32)})


async def test_patterns_take_linear_time(score) -> None:
    """Where a backtracking engine would never come back."""
    assert await score({"regex": "(a+)+$"}, "a" * 100_000 + "b") == [0.0]
    assert await score({"regex": "(a?){500}a{500}$"}, "a" * 20_000) == [1.0]
    assert await score({"json_schema": {"pattern": "^(a+)+$"}}, json.dumps("a" * 100_000 + "b")) == [0.0]


@pytest.fixture
def listener():
    """A server that counts who comes: `(port, visitors)`."""
    visitors: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, address = server.accept()
                except OSError:
                    return
                visitors.append(address)
                connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        yield server.getsockname()[1], visitors
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef", "$recursiveRef", "$schema"])
@pytest.mark.parametrize(
    "where", ["http://127.0.0.1:{port}/s", "https://127.0.0.1:{port}/s", "//127.0.0.1:{port}/s", "file://{file}"]
)
async def test_nothing_is_ever_fetched(verifier_of, listener, tmp_path, keyword, where) -> None:
    """Neither from the network nor from the disk, wherever the reference stands."""
    port, visitors = listener
    file = tmp_path / "schema.json"
    file.write_text("{}")
    for schema in ({keyword: where.format(port=port, file=file)}, {"items": {keyword: where.format(port=port, file=file)}}):
        with pytest.raises(UnsupportedTask):
            verifier_of({"json_schema": schema})
    assert visitors == []


@pytest.mark.parametrize(
    "schema",
    [
        {"$id": "http://127.0.0.1:{port}/", "properties": {"a": {"$ref": "#nowhere"}}},
        {"items": {"$schema": "http://127.0.0.1:{port}/meta", "$id": "http://127.0.0.1:{port}/x"}},
        {"items": {"$id": "http://127.0.0.1:{port}/x", "$ref": "#y"}},
    ],
)
async def test_what_only_compiling_shows_fetches_nothing_either(score, listener, schema) -> None:
    """A base address makes local references look remote; the worker has no way out."""
    port, visitors = listener
    rule = json.loads(json.dumps(schema).replace("{port}", str(port)))
    with pytest.raises((UnsupportedTask, VerifierFailed)):
        await score({"json_schema": rule}, "{}")
    assert visitors == []


def doubling(levels: int, **also: object) -> dict:
    """A short schema that asks for 2 to the power of `levels` checks."""
    definitions = {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2, **also} for i in range(levels)}
    return {"$ref": "#/$defs/a0", "$defs": {**definitions, f"a{levels}": {"type": "object"}}}


def chain(levels: int) -> dict:
    """A chain of references that ends jsonschema_rs with a stack overflow while it compiles."""
    definitions = {
        f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}], "unevaluatedProperties": {"$ref": f"#/$defs/a{i + 1}"}}
        for i in range(levels)
    }
    return {"$ref": "#/$defs/a0", "$defs": {**definitions, f"a{levels}": {}}}


@pytest.mark.parametrize("schema", [doubling(60), doubling(40, unevaluatedProperties=False), chain(600)])
async def test_a_hostile_schema_ends_the_worker_and_no_more(verifier_of, says, task, score, schema) -> None:
    """It fails, for once and all, and the next rule is served."""
    verifier = verifier_of({"json_schema": schema})
    for _ in range(2):
        with pytest.raises(VerifierFailed, match="too long"):
            await verifier.score(task(), [says(0, "{}")], None)
    assert await verifier.score(task(), [says(0, "{}", finish="step")], None) == [0.5]
    assert await score({"json_schema": {"type": "object"}}, "{}", "1") == [1.0, 0.0]


@pytest.mark.parametrize("text", ["[" * 600 + "]" * 600, "```" + " " * 19_000, '{"a":' * 900 + "1" + "}" * 900])
def test_reading_json_survives_depth_and_open_fences(reads_in_linear_time, text) -> None:
    """Neither recursion nor time runs away with the reader."""
    assert reads_in_linear_time(lambda part: read_answer(AnswerKind.JSON, part), text)
