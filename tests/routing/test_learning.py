"""Corrections of estimates are bounded, converge to the truth, forget, and give no key more than its share."""

import asyncio
import json
import math
import random
import stat
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.routing.features import logit
from app.routing.learning.correction import MAX_CORRECTION, SLOPES, Correction, WordWeights
from app.routing.learning.file import MAX_BYTES, read_learned, write_learned
from app.routing.learning.keeping import kept
from app.routing.learning.learner import ANSWER_WEIGHT, MAX_SUBJECTS, MAX_WORDS, MOST_OUTCOMES, Learner
from app.routing.learning.lesson import Lesson, Subject, moved
from app.routing.learning.shares import WINDOW_S, Shares
from app.routing.learning.words import NUM_BUCKETS, Words

GENERAL = Subject("m", "", "", "general", "0" * 16)

anything = st.floats(allow_nan=True, allow_infinity=True)
probabilities = st.floats(0, 1)


def stream(num: int, *, added: float = 0.0, slope: float = 1.0, seed: int = 0) -> Iterator[tuple[float, float]]:
    """Estimates with outcomes whose true log-odds are `added + slope * log-odds of the estimate`."""
    chance = random.Random(seed)
    for _ in range(num):
        estimate = chance.betavariate(1.5, 1.5)
        truth = 1 / (1 + math.exp(-added - slope * logit(estimate)))
        yield estimate, float(chance.random() < truth)


def learned(observations: Iterator[tuple[float, float]], weight: float = 1.0) -> Correction:
    one = Correction()
    for estimate, outcome in observations:
        one.observe(estimate, outcome, weight)
    return one


def lesson(learner: Learner, question: str = "What is 17 + 25?", subject: Subject = GENERAL, key: str = "key") -> Lesson:
    return learner.begin(subject, key, 0.5, Words.of(question))


def answered(one: Lesson, difficulty: float = 0.9) -> Lesson:
    """The lesson of a request whose only answer is wrong with a probability."""
    one.see_wave(difficulty, difficulty, first_leads=True)
    one.close(gives_first=True)
    return one


@given(
    observations=st.lists(st.tuples(anything, anything, anything, st.text(max_size=40)), max_size=60), estimate=probabilities
)
def test_a_correction_is_finite_and_bounded_whatever_comes(observations, estimate: float) -> None:
    one, weights = Correction(), WordWeights()
    for before, outcome, weight, text in observations:
        one.observe(before, outcome, weight, Words.of(text), weights)
    shift = one.shift(estimate, Words.of("What is 1 + 1?"), weights)
    assert abs(shift) <= MAX_CORRECTION
    assert 0 <= moved(estimate, shift) <= 1
    assert SLOPES[0] <= one.mean[1] <= SLOPES[1]
    assert np.isfinite(weights.means).all()
    assert (weights.precisions > 0).all()


@given(text=st.text(max_size=3000))
def test_any_prompt_has_words(text: str) -> None:
    words = Words.of(text)
    assert len(set(words.buckets.tolist())) == len(words.buckets) == len(words.values)
    assert ((words.buckets >= 0) & (words.buckets < NUM_BUCKETS)).all()
    assert np.isfinite(words.values).all()


def test_without_observations_nothing_is_corrected() -> None:
    assert Correction().shift(0.3, Words.of("What is 17 + 25?"), WordWeights()) == 0


@settings(max_examples=20, deadline=None)
@given(added=st.floats(-1.5, 1.5), slope=st.floats(0.5, 1.5), seed=st.integers(0, 1000))
def test_a_correction_converges_to_the_truth(added: float, slope: float, seed: int) -> None:
    """Also where the estimates were right: then it stays near nothing."""
    one = learned(stream(800, added=added, slope=slope, seed=seed))
    for estimate in (0.2, 0.5, 0.8):
        truth = added + (slope - 1) * logit(estimate)
        assert one.shift(estimate) == pytest.approx(truth, abs=0.6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_order_of_observations_matters_little(seed: int) -> None:
    observations = list(stream(200, added=0.7, seed=seed))
    forward, backward = learned(iter(observations)), learned(iter(observations[::-1]))
    for estimate in (0.1, 0.5, 0.9):
        assert forward.shift(estimate) == pytest.approx(backward.shift(estimate), abs=0.35)


def test_what_is_old_is_forgotten() -> None:
    """A model that was replaced behind its name, say, is learned anew."""
    one = learned(stream(2000, added=1.5))
    assert one.shift(0.5) > 1
    for estimate, outcome in stream(3000, added=-1.5, seed=1):
        one.observe(estimate, outcome, 1.0)
    assert one.shift(0.5) < -1


def test_a_kind_of_question_is_learned_by_its_words() -> None:
    """Questions on riddles are always wrong here, those on sums always right, and the estimate knows of neither."""
    one, weights = Correction(), WordWeights()
    for number in range(60):
        one.observe(0.5, 1.0, ANSWER_WEIGHT, Words.of(f"Solve riddle {number} of the sphinx."), weights)
        one.observe(0.5, 0.0, ANSWER_WEIGHT, Words.of(f"What is {number} plus {number}?"), weights)
    assert one.shift(0.5, Words.of("Solve riddle 99 of the sphinx."), weights) > 1
    assert one.shift(0.5, Words.of("What is 98 plus 99?"), weights) < -1
    assert abs(one.shift(0.5)) < 0.5


def test_an_answer_that_nobody_judged_teaches_the_first_estimate_alone() -> None:
    learner = Learner()
    for _ in range(50):
        answered(lesson(learner))
    one = lesson(learner)
    assert one.before_shift > 0.5
    assert one.corrections.after.shift(0.5) == 0


def test_a_first_answer_that_does_not_lead_is_probably_wrong() -> None:
    """It is wrong wherever the leader, another answer, is right."""
    one = lesson(Learner())
    one.see_wave(0.5, 0.5, first_leads=True)
    one.see_wave(0.1, 0.1, first_leads=False)
    assert one.first_wrong == pytest.approx(0.9)


def test_an_outcome_teaches_both_estimates() -> None:
    learner = Learner()
    for _ in range(40):
        answered(lesson(learner), 0.5).judge(is_right=True)
    one = lesson(learner)
    assert one.before_shift < -0.5
    assert one.see_wave(0.5, 0.5, first_leads=True) < 0.4


@pytest.mark.parametrize(("is_right", "shift"), [(True, 1), (False, 0)])
def test_an_outcome_of_another_answer_tells_of_the_first_one_only_where_it_is_right(is_right: bool, shift: int) -> None:
    """Where the given answer is right, the first one, which differs, is wrong. Where it is wrong, the first may be either."""
    learner = Learner()
    one = lesson(learner)
    one.gives_first = False
    one.judge(is_right=is_right)
    assert np.sign(lesson(learner).before_shift) == shift


def test_a_flood_by_one_key_has_the_weight_of_its_share() -> None:
    """Ten thousand false outcomes of one key move no more than `MOST_OUTCOMES` do, and those of others still count."""
    flooded, fair = Learner(clock=lambda: 0.0), Learner(clock=lambda: 0.0)
    for learner, num in ((flooded, 10_000), (fair, int(MOST_OUTCOMES))):
        one = lesson(learner, key="flood")
        one.gives_first = True
        for _ in range(num):
            one.judge(is_right=False)
    assert lesson(flooded, key="other").before_shift == lesson(fair, key="other").before_shift
    for key in ("one", "two", "three"):
        one = lesson(flooded, key=key)
        one.gives_first = True
        for _ in range(int(MOST_OUTCOMES)):
            one.judge(is_right=True)
    assert lesson(flooded, key="other").before_shift < 0


def test_the_words_of_one_key_move_no_estimates_of_another() -> None:
    """So nobody learns what others have asked: two questions of another key are moved alike."""
    learner = Learner()
    for _ in range(50):
        answered(lesson(learner, "Solve the riddle of the sphinx.", key="mine"))
        answered(lesson(learner, "What is 17 + 25?", key="mine"), 0.1)
    mine, theirs = (
        [lesson(learner, text, key=key).before_shift for text in ("Solve the riddle of the sphinx.", "What is 17 + 25?")]
        for key in ("mine", "theirs")
    )
    assert mine[0] > mine[1] + 1
    assert theirs[0] == theirs[1]


def test_a_share_is_there_again_after_some_time() -> None:
    now = 0.0
    shares = Shares(2.0, lambda: now)
    assert [shares.take("key", 1.0) for _ in range(3)] == [1.0, 1.0, 0.0]
    assert shares.take("other", 1.0) == 1.0
    now = 10 * WINDOW_S
    assert shares.take("key", 1.0) == pytest.approx(1.0)


def test_each_version_of_an_adapter_begins_anew() -> None:
    learner = Learner()
    old, new = (Subject("m", "a", version, "general", "0") for version in ("old", "new"))
    answered(lesson(learner, subject=old))
    assert lesson(learner, subject=old).before_shift > 0
    assert lesson(learner, subject=new).before_shift == 0


def test_the_models_that_were_learned_of_last_are_kept() -> None:
    learner = Learner()
    for number in range(MAX_SUBJECTS + 5):
        answered(lesson(learner, subject=Subject(str(number), "", "", "general", "0"), key=str(number)))
    names = [subject.model for subject, _ in learner]
    assert len(names) == MAX_SUBJECTS
    assert names[-1] == str(MAX_SUBJECTS + 4)


def test_the_words_that_were_learned_last_are_kept() -> None:
    learner = Learner()
    for number in range(MAX_WORDS + 5):
        answered(lesson(learner, key=str(number)))
    [(_, corrections)] = learner
    assert list(corrections.words) == [str(number) for number in range(5, MAX_WORDS + 5)]


def taught() -> Learner:
    learner = Learner()
    for question in ("What is 17 + 25?", "Which day was yesterday?"):
        answered(lesson(learner, question)).judge(is_right=False)
    return learner


def test_what_was_learned_survives_a_restart(tmp_path) -> None:
    """The file has numbers, no words, and only its owner may read it."""
    path = tmp_path / "policies" / ".learned.json"
    before = taught()
    write_learned(path, before)
    after = Learner(read_learned(path))
    assert lesson(after).before_shift == pytest.approx(lesson(before).before_shift, abs=1e-3)
    assert lesson(after).see_wave(0.5, 0.5, first_leads=True) == pytest.approx(
        lesson(before).see_wave(0.5, 0.5, first_leads=True)
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "yesterday" not in path.read_text()


def test_the_largest_file_is_read_again(tmp_path) -> None:
    learner = Learner(clock=lambda: 0.0)
    text = " ".join(chr(97 + number % 26) * (number // 26 + 1) for number in range(1000))
    for number in range(MAX_WORDS):
        subject = Subject("m" * 200, "", str(number % MAX_SUBJECTS), "general", "0")
        for start in range(0, len(text), 900):
            answered(lesson(learner, text[start : start + 900], subject, key=f"{number:032}"), 0.77)
    write_learned(tmp_path / "learned", learner)
    assert (tmp_path / "learned").stat().st_size < MAX_BYTES / 2
    assert len(read_learned(tmp_path / "learned")) == MAX_SUBJECTS


def _broken() -> Iterator[str]:
    yield ""
    yield "{}"
    yield "[1, 2"
    good = {"mean": [0, 1], "covariance": [1, 0, 1], "weight": 1}
    subject = {**GENERAL._asdict(), "before": good, "after": good, "words": {}}
    for change in ({"mean": [99, 1]}, {"covariance": [1, 2, 1]}, {"weight": "NaN"}, {"mean": [0, 0]}):
        yield json.dumps({"subjects": [{**subject, "before": {**good, **change}}]})
    for word in ([NUM_BUCKETS, 0, 1, 1], [1, 0, 0, 1], [1, 99, 1, 1]):
        yield json.dumps({"subjects": [{**subject, "words": {"key": {"prompts": 1, "words": [word]}}}]})


@pytest.mark.parametrize("text", list(_broken()))
def test_a_broken_file_is_ignored_with_a_warning(tmp_path, caplog, text: str) -> None:
    (tmp_path / "learned").write_text(text)
    assert read_learned(tmp_path / "learned") == {}
    assert "learned anew" in caplog.text


@pytest.mark.anyio
async def test_it_is_written_by_a_task_and_at_the_end(tmp_path) -> None:
    """Not with each request, and not where nothing was learned."""
    path = tmp_path / "learned"
    learner = taught()
    async with kept(learner, path, seconds=60):
        pass
    assert not path.exists()
    async with kept(learner, path, seconds=0.01):
        answered(lesson(learner))
        for _ in range(500):
            if path.exists():
                break
            await asyncio.sleep(0.01)
        assert path.exists()
        path.unlink()
        answered(lesson(learner))
    assert path.exists()


@pytest.mark.anyio
async def test_a_folder_that_cannot_be_written_is_told_once(tmp_path, caplog) -> None:
    (tmp_path / "file").write_text("")
    learner = Learner()
    async with kept(learner, tmp_path / "file" / "learned", seconds=0.01):
        answered(lesson(learner))
        await asyncio.sleep(0.1)
    assert caplog.text.count("cannot be kept") == 1


def test_a_lesson_costs_little(seconds) -> None:
    """At most a few times what the words of a prompt cost, which is a tenth of a millisecond on an idle machine."""
    learner, question = Learner(), "A farmer has 12 apples and buys 7 more. How many apples has the farmer then? " * 3

    def whole() -> None:
        for _ in range(200):
            answered(learner.begin(GENERAL, "key", 0.5, Words.of(question)))

    def words() -> None:
        for _ in range(200):
            Words.of(question)

    assert seconds(whole) < 6 * seconds(words)
