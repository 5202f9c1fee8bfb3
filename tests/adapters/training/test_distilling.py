"""Samples are kept as they come and never drawn twice. The shortest right answers are learned."""

import asyncio
import json

import pytest

from adapters.training.data import DatasetQuestion
from adapters.training.distilling import select_answers
from adapters.training.errors import DataRefused, TeacherGone, Unanswerable
from adapters.training.ports import Answer, Samples
from adapters.training.sampling import SampleFile, collect


def question(text: str, **fields: object) -> DatasetQuestion:
    return DatasetQuestion(messages=[{"role": "user", "content": text}], **fields)


QUESTIONS = [question(f"{number}?", answer=str(number)) for number in range(20)]


class FakeTeacher:
    """Answers "n" to the question "n?", and stops answering after `lasts` questions."""

    def __init__(self, lasts: int = 10**9, refuses: tuple[str, ...] = ()) -> None:
        self.lasts = lasts
        self.refuses = refuses
        self.asked: list[tuple[str, int, int]] = []
        self.running = self.most = 0

    async def __call__(self, asked: DatasetQuestion, n: int, seed: int) -> Samples:
        if len(self.asked) >= self.lasts:
            raise TeacherGone("it has stopped answering")
        self.asked.append((asked.messages[0].content, n, seed))
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        text = asked.messages[0].content.rstrip("?")
        if text in self.refuses:
            raise Unanswerable(f"{text} is too long")
        return Samples(asked.key, (Answer(text, is_whole=True),) * n, tokens=n, flops=10)


class FakeGrader:
    """An answer is right when its last word is the question's answer."""

    async def grade(self, asked: DatasetQuestion, answers: tuple[Answer, ...]) -> list[bool]:
        return [answer.is_whole and answer.text.split()[-1:] == [asked.answer] for answer in answers]


async def collected(teacher, path, **options):
    return await collect(QUESTIONS, teacher, SampleFile(path, "so"), **{"n": 2, "seed": 7, "at_once": 4, **options})


@pytest.mark.anyio
async def test_all_questions_are_asked_once_several_at_a_time(tmp_path):
    teacher = FakeTeacher()
    reported = []
    samples = await collected(teacher, tmp_path / "s.jsonl", report=lambda done, of: reported.append((done, of)))
    assert [samples[one.key].answers[0].text for one in QUESTIONS] == [str(number) for number in range(20)]
    assert teacher.most == 4
    assert reported[-1] == (20, 20)


@pytest.mark.anyio
async def test_no_answers_are_lost_when_the_teacher_stops(tmp_path):
    """The next start asks the remaining questions with the same seeds, even after a kill in the middle of a line."""
    path = tmp_path / "s.jsonl"
    undisturbed = FakeTeacher()
    await collected(undisturbed, tmp_path / "whole.jsonl")
    first = FakeTeacher(lasts=9)
    with pytest.raises(TeacherGone, match="stopped answering"):
        await collected(first, path)
    kept = len(SampleFile(path, "so").samples)
    assert 6 <= kept <= 9  # answers that were incomplete when it stopped are cancelled
    path.write_bytes(path.read_bytes() + b'{"key": "ab')
    second = FakeTeacher()
    samples = await collected(second, path)
    assert len(samples) == 20
    assert len(second.asked) == 20 - kept
    assert set(second.asked) <= set(undisturbed.asked)
    assert all(json.loads(line) for line in path.read_text().splitlines())


@pytest.mark.anyio
async def test_a_question_that_is_there_twice_is_asked_once(tmp_path):
    teacher = FakeTeacher()
    await collect([QUESTIONS[0], QUESTIONS[0]], teacher, SampleFile(tmp_path / "s.jsonl", "so"), n=1, seed=0, at_once=4)
    assert len(teacher.asked) == 1


@pytest.mark.anyio
async def test_samples_of_other_settings_are_kept_but_not_used(tmp_path):
    path = tmp_path / "s.jsonl"
    await collected(FakeTeacher(), path)
    assert SampleFile(path, "otherwise").samples == {}
    await collect(QUESTIONS, FakeTeacher(), SampleFile(path, "otherwise"), n=2, seed=7, at_once=4)
    assert SampleFile(path, "so").samples.keys() == SampleFile(path, "otherwise").samples.keys()


@pytest.mark.anyio
async def test_a_question_that_is_refused_has_no_answers(tmp_path):
    path = tmp_path / "s.jsonl"
    samples = await collected(FakeTeacher(refuses=("3", "5")), path)
    assert [key for key, found in samples.items() if not found.answers] == [QUESTIONS[3].key, QUESTIONS[5].key]
    again = FakeTeacher()
    assert await collected(again, path) == samples | SampleFile(path, "so").samples
    assert again.asked == []


@pytest.mark.anyio
async def test_a_teacher_that_refuses_everything_is_reported_soon_and_asked_again(tmp_path):
    """Its server may be set up wrongly, and be corrected before the next start."""
    teacher = FakeTeacher(refuses=tuple(map(str, range(20))))
    with pytest.raises(TeacherGone, match="is too long"):
        await collected(teacher, tmp_path / "s.jsonl")
    assert len(teacher.asked) < 10
    assert len((await collected(FakeTeacher(), tmp_path / "s.jsonl"))[QUESTIONS[0].key].answers) == 2


def test_samples_of_ponder_0_1_are_read(tmp_path):
    """It called the hash of the settings `how`."""
    line = {"key": "x", "answers": [{"text": "4", "is_whole": True}], "tokens": 1, "flops": None, "how": "so"}
    (tmp_path / "s.jsonl").write_text(json.dumps(line) + "\n")
    assert SampleFile(tmp_path / "s.jsonl", "so").samples["x"].answers == (Answer("4", is_whole=True),)


def test_a_file_that_holds_no_samples_is_refused(tmp_path):
    (tmp_path / "s.jsonl").write_text('{"key": "x"}\n')
    with pytest.raises(DataRefused, match="line 1: these are not samples"):
        SampleFile(tmp_path / "s.jsonl", "so")


def samples_of(asked: DatasetQuestion, *texts: str, cut: tuple[str, ...] = ()) -> dict[str, Samples]:
    answers = tuple(Answer(text, is_whole=text not in cut) for text in texts)
    return {asked.key: Samples(asked.key, answers, tokens=10)}


@pytest.mark.anyio
async def test_the_shortest_different_right_answers_are_learned():
    asked = question("2 + 2?", answer="4")
    samples = samples_of(asked, "it is 4", "4", "so, well, 4", "4 ", "5", cut=())
    selected = await select_answers([asked], samples, FakeGrader(), keep=2)
    assert [line["messages"][-1]["content"] for line in selected.chats] == ["4", "it is 4"]
    assert (selected.questions, selected.solved, selected.share_right) == (1, 1, 4 / 5)
    assert selected.chats[0]["messages"][0] == {"role": "user", "content": "2 + 2?"}


@pytest.mark.anyio
async def test_an_answer_that_was_cut_is_never_learned():
    asked = question("2 + 2?", answer="4")
    with pytest.raises(DataRefused, match="none of 1 answers to 1 questions is right"):
        await select_answers([asked], samples_of(asked, "4", cut=("4",)), FakeGrader(), keep=1)
