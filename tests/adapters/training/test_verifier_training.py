"""A verifier learns to separate right from wrong answers, and is asked by the server as it was in training."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.training.base import load_tokenizer
from adapters.training.data import DatasetQuestion
from adapters.training.errors import DataRefused
from adapters.training.labelling import LabelledAnswer, label_outcomes, label_steps, partial_answers, split_by_question
from adapters.training.ports import Answer, Samples
from adapters.training.scores import auroc
from adapters.training.verifier_training import VERIFIER_PROMPT, fill_template, train_verifier
from adapters.verifier_prompt import PONDER_CONFIG_FILE, read_ponder_config

EASY = [LabelledAnswer(f"{a}?", "yes" * right, float(right), f"{a:x}") for a in range(8) for right in (True, False)]


def test_a_verifier_learns_and_is_saved_with_its_prompt(job, watcher):
    made = train_verifier(job(epochs=12, packing=False, batch=4, at_once=4), EASY, EASY, watcher.environment, "a test")
    assert made.scores["validation AUROC"] > 0.9
    assert made.scores["validation loss"] < 0.6
    config = read_ponder_config(job().out / PONDER_CONFIG_FILE)
    assert config is not None
    assert config.verifier_prompt == VERIFIER_PROMPT
    assert json.loads((job().out / "adapter_config.json").read_text())["r"] == 4


def test_the_server_asks_in_the_words_that_were_trained():
    """Training and the server's verifier fill the template with the same text."""
    from strategies.core.values import Candidate, Task
    from strategies.verifiers.adapter import _prompt

    question, answer = "What is {answer}?", "{question} 42"
    task = Task(question=question, prefix=(), kind="math", encode=lambda text: tuple(text.encode()))
    asked = _prompt(task, Candidate(0, answer, (), "stop"), VERIFIER_PROMPT.template)
    assert bytes(asked).decode() == fill_template(VERIFIER_PROMPT.template, question, answer)
    assert fill_template("{question}|{answer}", question, answer) == f"{question}|{answer}"


def test_soft_labels_are_learned_as_they_are(job, watcher):
    """One answer has labels between 0 and 1. The loss reaches the entropy of their mean, below which it cannot fall."""
    half = [LabelledAnswer("q", "a", 0.75, "1"), LabelledAnswer("q", "a", 0.25, "2")] + [
        LabelledAnswer("q", "a", 0.75, "3")
    ] * 6
    made = train_verifier(job(epochs=30, batch=8, at_once=8, packing=False), half, half, watcher.environment, "a test")
    share = sum(one.label for one in half) / len(half)
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    assert made.scores["validation loss"] == pytest.approx(entropy, abs=0.01)


def test_labels_that_are_all_alike_are_refused(job, watcher):
    with pytest.raises(DataRefused, match="all 2 answers are wrong"):
        train_verifier(job(), [LabelledAnswer("q", "a", 0.0, "1")] * 2, EASY, watcher.environment, "a test")
    with pytest.raises(DataRefused, match="no whole answer"):
        train_verifier(job(), [], EASY, watcher.environment, "a test")
    with pytest.raises(DataRefused, match="of 0 for validation 0: none are left"):
        train_verifier(job(), EASY, [], watcher.environment, "a test")
    with pytest.raises(DataRefused, match=f"of {len(EASY)} answers for training {len(EASY)} are too long"):
        train_verifier(job(context=16), EASY, EASY, watcher.environment, "a test")


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ([1, 2, 3, 4], [0, 0, 1, 1], 1.0),
        ([4, 3, 2, 1], [0, 0, 1, 1], 0.0),
        ([1, 1, 1], [0, 1, 1], 0.5),
        ([1, 2, 2, 3], [0, 1, 0, 1], 0.875),
    ],
)
def test_auroc_by_hand(scores, labels, expected):
    assert auroc(scores, [bool(label) for label in labels]) == expected


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30))
def test_auroc_counts_pairs(pairs):
    right = [score for score, is_right in pairs if is_right]
    wrong = [score for score, is_right in pairs if not is_right]
    found = auroc([score for score, _ in pairs], [is_right for _, is_right in pairs])
    if not right or not wrong:
        assert math.isnan(found)
        return
    wins = sum((a > b) + (a == b) / 2 for a in right for b in wrong)
    assert found == pytest.approx(wins / (len(right) * len(wrong)))


QUESTION = DatasetQuestion(
    messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "6 * 7?"}], answer="42"
)


class EndingGrader:
    """An answer is right when it ends with the question's answer."""

    async def grade(self, question, answers):
        return [answer.text.strip().endswith(question.answer) for answer in answers]


def drawn(*texts: str) -> dict[str, Samples]:
    return {QUESTION.key: Samples(QUESTION.key, tuple(Answer(text, is_whole=not text.endswith("…")) for text in texts), 1)}


@pytest.mark.anyio
async def test_outcomes_label_each_whole_answer_once():
    labelled = await label_outcomes([QUESTION], drawn("is 42", "is 42 ", "is 41", "so…"), EndingGrader())
    assert [(one.question, one.answer, one.label) for one in labelled] == [("6 * 7?", "is 42", 1.0), ("6 * 7?", "is 41", 0.0)]


def test_beginnings_are_whole_steps_spread_over_the_answer():
    begun = partial_answers([QUESTION], drawn("a\nb\nc\nd\ne", "a\nx"), max_each=2)
    assert [one.text for one in begun] == ["a\n", "a\nb\nc\n"]
    assert len({one.key for one in begun}) == 2


def test_a_beginning_is_continued_where_it_ends(tiny):
    tokenizer = load_tokenizer(tiny)
    [begun] = partial_answers([QUESTION], drawn("a\nb"), max_each=1)
    assert tokenizer.decode(begun.prompt(tokenizer)).endswith("<|im_start|>assistant\na\n")


@pytest.mark.anyio
async def test_steps_are_labelled_by_the_share_of_right_rollouts():
    [begun] = partial_answers([QUESTION], drawn("a\nb"), max_each=1)
    rollouts = {begun.key: Samples(begun.key, tuple(Answer(text, is_whole=True) for text in ("42", "41", "42", "40")), 1)}
    [labelled] = await label_steps([begun], rollouts, EndingGrader())
    assert (labelled.answer, labelled.label) == ("a", 0.5)


def test_the_split_is_by_whole_questions_and_the_same_at_every_start():
    labelled = [LabelledAnswer("q", "a", 1.0, f"{number * 7919:x}") for number in range(1000) for _ in range(2)]
    learned, watched = split_by_question(labelled, 0.2)
    assert {one.group for one in learned}.isdisjoint(one.group for one in watched)
    assert len(learned) + len(watched) == 2000
    assert 300 < len(watched) < 500
    assert (learned, watched) == split_by_question(labelled, 0.2)
