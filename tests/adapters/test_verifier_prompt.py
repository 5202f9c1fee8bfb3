"""`ponder.json`: an adapter says how it was taught to be asked, in bounds, and whatever is wrong is refused by file and field."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.config import CONFIG_FILE, read_config
from adapters.errors import AdapterRefused
from adapters.verifier_prompt import NOTES_FILE, read_notes
from tests.peft_folder import CONFIG

INQUIRY = {"template": "\nIs this answer correct (Yes or No)?", "yes": " Yes", "no": " No"}


@pytest.fixture
def read(tmp_path: Path):
    """`read(content)`: the notes, of bytes or of what is to become JSON."""

    def of(content: object):
        path = tmp_path / NOTES_FILE
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return read_notes(path)

    return of


def refusal(read, content: object) -> AdapterRefused:
    with pytest.raises(AdapterRefused) as refused:
        read(content)
    return refused.value


def test_no_file_is_no_inquiry(tmp_path: Path) -> None:
    """Most adapters do not judge."""
    assert read_notes(tmp_path / NOTES_FILE) is None


@pytest.mark.parametrize(
    "template",
    [
        INQUIRY["template"],
        "{answer}",
        "Question: {question}\nAnswer: {answer}\nIs the last step, {step}, right? {answer}",
        "{answer} in JSON: {}, {0}, { answer }, {'answer': 1}, {{answer}}, }{, {question!r}, {step:>9}",
        "x" * 8192,
        "ß\u2028\0\U0001f600",
    ],
)
def test_a_template_is_kept_as_it_is(read, template: str) -> None:
    """Nothing but the three placeholders means anything; and what is written anew says the same."""
    notes = read({"inquiry": {**INQUIRY, "template": template}})
    assert (notes.inquiry.template, notes.inquiry.yes, notes.inquiry.no) == (template, " Yes", " No")
    assert read(notes.normalised()) == notes


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("template", "{answer} {context}", "no placeholder {context}; there are {question}, {answer}, {step}"),
        ("template", "{answer} {Step}", "no placeholder {Step}"),
        ("template", "{answer} {{x}}", "no placeholder {x}"),
        ("template", "{question}?", "{question} without {answer}"),
        ("template", "{step}?", "{step} without {answer}"),
        ("template", "", "at least 1 character"),
        ("template", "x" * 8193, "at most 8192 characters"),
        ("template", 1, "valid string"),
        ("yes", "", "at least 1 character"),
        ("yes", "y" * 65, "at most 64 characters"),
        ("no", None, "valid string"),
        ("no", " Yes", "the same word as `yes`"),
        ("maybe", " Maybe", "not known"),
    ],
)
def test_a_refusal_names_the_field_and_the_reason(read, field: str, value: object, why: str) -> None:
    """As for the config: `file:field`."""
    refused = refusal(read, {"inquiry": {**INQUIRY, field: value}})
    assert refused.parameter == f"ponder.json:inquiry.{field}"
    assert why in str(refused)
    assert str(refused).startswith(f"ponder.json: `inquiry.{field}`: ")


@pytest.mark.parametrize(
    ("content", "parameter", "why"),
    [
        ({"inquiry": {}}, "ponder.json:inquiry.template", "missing"),
        ({}, "ponder.json:inquiry", "missing"),
        ({"inquiry": None}, "ponder.json:inquiry", "must be an object"),
        ({"inquiry": [INQUIRY]}, "ponder.json:inquiry", "must be an object"),
        ({"inquiry": INQUIRY, "weights": "here"}, "ponder.json:weights", "not known"),
        ([], "ponder.json", "not a JSON object"),
        (b"", "ponder.json", "not valid JSON"),
        (b'{"inquiry": ', "ponder.json", "not valid JSON"),
        (b"[" * 60_000, "ponder.json", "not valid JSON"),
        (json.dumps({"inquiry": INQUIRY}).encode("utf-16"), "ponder.json", "not valid UTF-8"),
        (b'{"inquiry": "\xff"}', "ponder.json", "not valid UTF-8"),
        (b'{"inquiry": "\\ud800"}', "ponder.json", "not valid UTF-8"),
        (b'{"inquiry": {}, "inquiry": {}}', "ponder.json:inquiry", "twice"),
        (b'{"inquiry": {"yes": "a", "yes": "b"}}', "ponder.json:yes", "twice"),
        (json.dumps({"inquiry": INQUIRY}).encode() + b" " * 65_536, "ponder.json", "larger than 65536 bytes"),
    ],
)
def test_what_is_no_such_document_is_told_as_that(read, content: object, parameter: str, why: str) -> None:
    """Never a crash, and never a guess at which of two was meant."""
    refused = refusal(read, content)
    assert refused.parameter == parameter
    assert why in str(refused)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["inquiry", "template", "yes", "no"]), inner),
)
TEMPLATES = st.lists(st.sampled_from(["{answer}", "{question}", "{step}", "{x}", "{", "}", " "]) | st.text()).map("".join)
INQUIRIES = st.fixed_dictionaries({"template": TEMPLATES, "yes": st.text(max_size=70), "no": st.text(max_size=70)})


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary() | JSON | st.fixed_dictionaries({"inquiry": INQUIRIES | JSON}))
def test_whatever_comes_is_refused_by_name_or_can_be_kept(read, content: object) -> None:
    """What is accepted reads the same after it was written anew; every refusal can be sent in an answer."""
    try:
        notes = read(content)
    except AdapterRefused as error:
        refused = error
    else:
        assert read(notes.normalised()) == notes
        assert read(notes.normalised()).normalised() == notes.normalised()
        return
    assert refused.parameter.startswith(NOTES_FILE)
    assert str(refused).encode()
    assert len(str(refused)) < 1000


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    r=st.integers(1, 65_536),
    alpha=st.floats(0, 1e6, exclude_min=True) | st.integers(1, 10**6),
    modules=st.lists(st.text(min_size=1, max_size=20) | st.sampled_from(["v_proj", "x.", "a.v_proj", "."]), min_size=1),
)
def test_a_config_that_is_accepted_reads_the_same_after_it_was_written_anew(
    tmp_path, r: int, alpha: float, modules: list
) -> None:
    """It is checked once, before; unless no module is left, which no weights fit."""
    path = tmp_path / CONFIG_FILE
    path.write_text(json.dumps({**CONFIG, "r": r, "lora_alpha": alpha, "target_modules": modules}), encoding="utf-8")
    try:
        config = read_config(path)
    except AdapterRefused:
        return
    path.write_bytes(config.normalised())
    if any(not module.endswith(".") for module in modules):
        again = read_config(path)
        assert (again.r, again.scale, again.normalised()) == (config.r, config.scale, config.normalised())


def test_a_config_that_would_grow_too_large_is_refused(tmp_path) -> None:
    """Escaped it takes three times the room, and nobody could read it again."""
    path = tmp_path / CONFIG_FILE
    modules = [f"{number:04}" + "ß" * 40 for number in range(2500)]
    fields = {**CONFIG, "r": 1, "lora_alpha": 1, "target_modules": modules}
    path.write_text(json.dumps(fields, ensure_ascii=False), encoding="utf-8")
    with pytest.raises(AdapterRefused, match="target_modules"):
        read_config(path)
