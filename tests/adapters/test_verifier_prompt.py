"""`ponder.json` says how a verifier is asked. Whatever is wrong in it is refused, naming file and field."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.config import CONFIG_FILE, read_config
from adapters.errors import AdapterRefused
from adapters.verifier_prompt import PONDER_CONFIG_FILE, read_ponder_config
from tests.peft_folder import CONFIG

VERIFIER_PROMPT = {"template": "\nIs this answer correct (Yes or No)?", "yes": " Yes", "no": " No"}


@pytest.fixture
def read(tmp_path: Path):
    """`read(content)`: the config of a file with these bytes, or with this value as JSON."""

    def of(content: object):
        path = tmp_path / PONDER_CONFIG_FILE
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return read_ponder_config(path)

    return of


def refusal(read, content: object) -> AdapterRefused:
    with pytest.raises(AdapterRefused) as refused:
        read(content)
    return refused.value


def test_an_adapter_without_the_file_has_no_verifier_prompt(tmp_path: Path) -> None:
    """Most adapters are no verifiers."""
    assert read_ponder_config(tmp_path / PONDER_CONFIG_FILE) is None


@pytest.mark.parametrize(
    "template",
    [
        VERIFIER_PROMPT["template"],
        "{answer}",
        "Question: {question}\nAnswer: {answer}\nIs the last step, {step}, right? {answer}",
        "{answer} in JSON: {}, {0}, { answer }, {'answer': 1}, {{answer}}, }{, {question!r}, {step:>9}",
        "x" * 8192,
        "ß\u2028\0\U0001f600",
    ],
)
def test_a_template_is_kept_as_it_is(read, template: str) -> None:
    """Only the three placeholders have a meaning. A file that is written from what was read says the same."""
    config = read({"verifier_prompt": {**VERIFIER_PROMPT, "template": template}})
    prompt = config.verifier_prompt
    assert (prompt.template, prompt.yes, prompt.no) == (template, " Yes", " No")
    assert read(config.canonical()) == read(config.to_json().encode()) == config
    assert "verifier_prompt" in json.loads(config.to_json())


def test_the_old_key_is_still_read(read) -> None:
    """Ponder 0.1 wrote `inquiry`. Both spellings are the same to the store, and a refusal names the key of the file."""
    old, new = read({"inquiry": VERIFIER_PROMPT}), read({"verifier_prompt": VERIFIER_PROMPT})
    assert old == new
    assert old.canonical() == new.canonical() == json.dumps({"inquiry": VERIFIER_PROMPT}, indent=2).encode()
    assert refusal(read, {"inquiry": {**VERIFIER_PROMPT, "yes": ""}}).parameter == "ponder.json:inquiry.yes"
    both = refusal(read, {"inquiry": VERIFIER_PROMPT, "verifier_prompt": VERIFIER_PROMPT})
    assert both.parameter == "ponder.json:inquiry"


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
    """As for the adapter's config: `file:field`."""
    refused = refusal(read, {"verifier_prompt": {**VERIFIER_PROMPT, field: value}})
    assert refused.parameter == f"ponder.json:verifier_prompt.{field}"
    assert why in str(refused)
    assert str(refused).startswith(f"ponder.json: `verifier_prompt.{field}`: ")


@pytest.mark.parametrize(
    ("content", "parameter", "why"),
    [
        ({"verifier_prompt": {}}, "ponder.json:verifier_prompt.template", "missing"),
        ({}, "ponder.json:verifier_prompt", "missing"),
        ({"verifier_prompt": None}, "ponder.json:verifier_prompt", "must be an object"),
        ({"verifier_prompt": [VERIFIER_PROMPT]}, "ponder.json:verifier_prompt", "must be an object"),
        ({"verifier_prompt": VERIFIER_PROMPT, "weights": "here"}, "ponder.json:weights", "not known"),
        ([], "ponder.json", "not a JSON object"),
        (b"", "ponder.json", "not valid JSON"),
        (b'{"verifier_prompt": ', "ponder.json", "not valid JSON"),
        (b"[" * 60_000, "ponder.json", "not valid JSON"),
        (json.dumps({"verifier_prompt": VERIFIER_PROMPT}).encode("utf-16"), "ponder.json", "not valid UTF-8"),
        (b'{"verifier_prompt": "\xff"}', "ponder.json", "not valid UTF-8"),
        (b'{"verifier_prompt": "\\ud800"}', "ponder.json", "not valid UTF-8"),
        (b'{"verifier_prompt": {}, "verifier_prompt": {}}', "ponder.json:verifier_prompt", "twice"),
        (b'{"verifier_prompt": {"yes": "a", "yes": "b"}}', "ponder.json:yes", "twice"),
        (json.dumps({"verifier_prompt": VERIFIER_PROMPT}).encode() + b" " * 65_536, "ponder.json", "larger than 65536 bytes"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_the_reason(read, content: object, parameter: str, why: str) -> None:
    """There is never a crash, and never a guess which of two values is meant."""
    refused = refusal(read, content)
    assert refused.parameter == parameter
    assert why in str(refused)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters(exclude_categories=())),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.sampled_from(["verifier_prompt", "inquiry", "template", "yes", "no"]), inner)
    ),
)
TEMPLATES = st.lists(st.sampled_from(["{answer}", "{question}", "{step}", "{x}", "{", "}", " "]) | st.text()).map("".join)
PROMPTS = st.fixed_dictionaries({"template": TEMPLATES, "yes": st.text(max_size=70), "no": st.text(max_size=70)})


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary() | JSON | st.fixed_dictionaries({"verifier_prompt": PROMPTS | JSON}))
def test_any_file_is_refused_by_name_or_can_be_stored(read, content: object) -> None:
    """An accepted file says the same after the store has written it again. Every refusal can be sent in a reply."""
    try:
        config = read(content)
    except AdapterRefused as error:
        refused = error
    else:
        assert read(config.canonical()) == config
        assert read(config.canonical()).canonical() == config.canonical()
        return
    assert refused.parameter.startswith(PONDER_CONFIG_FILE)
    assert str(refused).encode()
    assert len(str(refused)) < 1000


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    r=st.integers(1, 65_536),
    alpha=st.floats(0, 1e6, exclude_min=True) | st.integers(1, 10**6),
    modules=st.lists(st.text(min_size=1, max_size=20) | st.sampled_from(["v_proj", "x.", "a.v_proj", "."]), min_size=1),
)
def test_an_accepted_config_says_the_same_after_it_is_written_again(tmp_path, r: int, alpha: float, modules: list) -> None:
    """It is checked only before. The exception is a config without any module, which no weights fit."""
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
    """Escaped, its text is three times as long, so that the file could not be read again."""
    path = tmp_path / CONFIG_FILE
    modules = [f"{number:04}" + "ß" * 40 for number in range(2500)]
    fields = {**CONFIG, "r": 1, "lora_alpha": 1, "target_modules": modules}
    path.write_text(json.dumps(fields, ensure_ascii=False), encoding="utf-8")
    with pytest.raises(AdapterRefused, match="target_modules"):
        read_config(path)
