"""Bad data are refused with file, line and reason. Examples that are too long are counted, never cut."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.training.base import load_tokenizer
from adapters.training.data import IGNORED, Chat, encode, read_chats, read_questions
from adapters.training.errors import DataRefused, RecipeRefused
from tests.adapters.training.conftest import CHATS, write_lines

THINKING = Path(__file__).parents[3] / "benchmarks" / "suite" / "thinking.jinja"
GOOD = json.dumps(CHATS[0])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("{", "line 1: not valid JSON"),
        (f"{GOOD}\n\nnonsense", "line 3: not valid JSON"),
        (f"{GOOD}\n[]", "line 2: `line`"),
        ('{"messages": []}', "line 1: `messages`: Tuple should have at least 2 items"),
        ('{"messages": [{"role": "user", "content": "?"}]}', "at least 2 items"),
        (
            '{"messages": [{"role": "user", "content": "?"}, {"role": "user", "content": "!"}]}',
            "the last message is the user's",
        ),
        (
            '{"messages": [{"role": "tool", "content": "?"}, {"role": "assistant", "content": "!"}]}',
            "line 1: `messages.0.role`",
        ),
        (
            '{"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": "!"}]}',
            "line 1: `messages.0.content`",
        ),
        ('{"prompt": "?", "completion": "!"}', "line 1: `messages`: Field required"),
        ("[" * 100_000, "line 1: not valid JSON"),
    ],
)
def test_bad_data_are_refused_with_the_line(content, reason, tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text(content)
    with pytest.raises(DataRefused, match=reason) as refused:
        read_chats(path)
    assert str(path) in str(refused.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataRefused, match="line 1"):
        read_chats(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataRefused, match=r"gone\.jsonl cannot be read: No such file"):
        read_chats(tmp_path / "gone.jsonl")


def test_separators_of_lines_within_texts_stay(tmp_path):
    chat = {"messages": [{"role": "user", "content": "a\u2028b\x85c\n"}, {"role": "assistant", "content": "ok"}]}
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(chat, ensure_ascii=False))
    assert read_chats(path)[0].messages[0].content == "a\u2028b\x85c\n"


def test_only_the_last_answer_is_learned(tiny):
    tokenizer = load_tokenizer(tiny)
    messages = [("user", "1?"), ("assistant", "one"), ("user", "2?"), ("assistant", "two")]
    chat = Chat(messages=[{"role": role, "content": content} for role, content in messages])
    [row] = encode(tokenizer, [chat], 512).rows
    learned = [label for label in row["labels"] if label != -100]
    assert tokenizer.decode(learned).strip() == "two<|im_end|>"
    assert tokenizer.decode(row["input_ids"]).count("one") == 1


@settings(deadline=None)  # the first example also warms up the tokenizer
@given(context=st.integers(150, 350))
def test_nothing_is_cut(tiny, context):
    tokenizer = load_tokenizer(tiny)
    sizes = range(1, 300, 30)
    chats = [Chat(messages=[{"role": "user", "content": "x" * size}, {"role": "assistant", "content": "y"}]) for size in sizes]
    encoded = encode(tokenizer, chats, context)
    assert len(encoded.rows) == len(encoded.chats) == len(chats) - encoded.num_too_long
    for row in encoded.rows:
        assert len(row["input_ids"]) == len(row["labels"]) <= context
        assert tokenizer.eos_token_id in row["labels"]


def test_a_context_that_nothing_fits_is_refused(tiny):
    with pytest.raises(DataRefused, match="all 1 examples are longer than the context of 16 tokens"):
        encode(load_tokenizer(tiny), [Chat(**CHATS[0])], 16)


def test_the_data_s_own_answer_is_not_part_of_a_question(tmp_path):
    path = write_lines(tmp_path / "q.jsonl", [{**CHATS[7], "answer": "2", "task": "sums"}])
    [question] = read_questions(path)
    assert [message.role for message in question.messages] == ["user"]
    assert question.answer == "2"


def _chat(answer, **more):
    return Chat(messages=[{"role": "user", "content": "1?"}, {"role": "assistant", "content": answer}], **more)


def _learned(tokenizer, row):
    return tokenizer.decode([label for label in row["labels"] if label != IGNORED])


def test_a_passage_that_is_not_learned_stays_in_the_context(tiny):
    tokenizer = load_tokenizer(tiny)
    [row] = encode(tokenizer, [_chat("1+1=3\nno, 1+1=2", unlearned=["1+1=3"])], 512).rows
    assert _learned(tokenizer, row).strip() == "no, 1+1=2<|im_end|>"
    assert "1+1=3\nno" in tokenizer.decode(row["input_ids"])


def test_a_passage_that_is_not_there_is_refused(tiny):
    with pytest.raises(DataRefused, match="`unlearned` is not in the last message"):
        encode(load_tokenizer(tiny), [_chat("1+1=2", unlearned=["1+1=3"])], 512)


@pytest.mark.parametrize(
    ("answer", "variables", "prompt", "learned"),
    [
        ("<think>\n1+1=2\n</think>\n\n2", {}, "<think>\n", "1+1=2\n</think>\n\n2<|im_end|>\n"),
        ("1+1=2\n2", {"enable_thinking": False}, "<think>\n\n</think>\n\n", "1+1=2\n2<|im_end|>\n"),
    ],
)
def test_what_a_template_opens_is_not_learned(tiny, answer, variables, prompt, learned):
    tokenizer = load_tokenizer(tiny, THINKING)
    [row] = encode(tokenizer, [_chat(answer, chat_template_kwargs=variables)], 512).rows
    assert _learned(tokenizer, row) == learned
    before = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label == IGNORED]
    assert tokenizer.decode(before).endswith(f"<|im_start|>assistant\n{prompt}")


@pytest.mark.parametrize(
    ("content", "reason"), [(b"{{ 1", "is no chat template"), (b"\xff", "is no chat template"), (None, "cannot be read")]
)
def test_a_file_that_is_no_template_is_refused(tiny, tmp_path, content, reason):
    file = tmp_path / "chat_template.jinja"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RecipeRefused, match=reason):
        load_tokenizer(tiny, file)
