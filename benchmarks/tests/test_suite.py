"""The suite: its splits, its commands, its tables, and that a run resumes where it was stopped."""

import json
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

pytest.importorskip("reasoning_gym")

from benchmarks import servers
from benchmarks.quality.answering import Session, Work
from benchmarks.quality.records import FOLDER as QUALITY
from benchmarks.quality.records import Log, Record, setup
from benchmarks.quality.runs import RUNS as QUALITY_RUNS
from benchmarks.quality.runs import Run
from benchmarks.quality.tasks import tasks as quality_tasks
from benchmarks.servers import Server
from benchmarks.suite import __main__ as command
from benchmarks.suite import questions
from benchmarks.suite.families import BINS, FAMILIES, HELD_OUT, TRAINING
from benchmarks.suite.report import answers, details, summary
from benchmarks.suite.runs import RUNS, THINKING, THINKING_VOTES, runs
from benchmarks.suite.serving import FOLDER, claim


@pytest.mark.parametrize("name", ["count_bits", "products"])
def test_splits_share_no_question_and_do_not_change(name):
    splits = {split: questions.mixed([name], list(BINS), split, 50) for split in ("test", "validation", "train")}
    prompts = {split: {one.prompt for one in found} for split, found in splits.items()}
    assert not prompts["train"] & (prompts["test"] | prompts["validation"])
    assert not prompts["validation"] & prompts["test"]
    assert splits["train"] == questions.mixed([name], list(BINS), "train", 50)
    assert [one.bin for one in splits["train"]] != sorted(one.bin for one in splits["train"])


def test_a_split_without_more_questions_gives_fewer_and_the_test_no_more_than_it_has():
    assert 600 < len(questions.examples("count_bits", 1, "train", 1000)) < 1008 - 50
    with pytest.raises(questions.TooMany):
        questions.examples("count_bits", 1, "test", 51)


def test_there_are_enough_test_questions_of_each_setting():
    texts = {name: {question.text for question in task.load(50)} for name, task in questions.tasks().items()}
    assert {len(found) for found in texts.values()} == {50}
    assert len(texts) == 3 * len(FAMILIES)
    assert len(TRAINING) >= 9
    assert len(HELD_OUT) >= 4


def _called(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["suite", *map(str, arguments)])
    command.main()


def test_data_and_prompts_are_chats(monkeypatch, tmp_path):
    chosen = ("--per-setting", 3, "--families", "gcd", "spell_backward", "--bins", 1, 3)
    _called(monkeypatch, "data", *chosen, "--out", tmp_path / "data.jsonl")
    _called(monkeypatch, "prompts", *chosen, "--out", tmp_path / "prompts.jsonl")
    data, prompts = (
        [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()] for name in ("data", "prompts")
    )
    assert len(data) == 2 * 2 * 3
    assert [[message["role"] for message in line["messages"]] for line in data] == [["user", "assistant"]] * 12
    assert all(FAMILIES[line["task"]].kind.is_right(line["messages"][1]["content"], line["answer"]) for line in data)
    assert [line["messages"][:1] for line in data] == [line["messages"] for line in prompts]
    assert {line["bin"] for line in data} == {1, 3}


def test_nothing_is_trained_on_held_out_families(monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match="lcm: choose from"):
        _called(monkeypatch, "prompts", "--families", "lcm", "--out", tmp_path / "x")


def test_runs_with_a_verifier_need_its_adapter():
    assert all("verifier" not in str(run.options.get("verifier")) for run in runs(has_verifier=False))
    assert runs(has_verifier=True) == RUNS
    assert {run.name for run in RUNS} >= {"direct", "self_consistency n=16", "majority n=4", "best_of_n n=8", "beam_search n=4"}
    assert RUNS[0].fields == {"temperature": 0}


def test_adapters_are_served_by_their_names_and_the_verifier_does_not_answer(monkeypatch, tmp_path):
    recorded = {}

    @contextmanager
    def ponder(*options, name, kv_gib):
        recorded["options"] = dict(pairwise(options))
        recorded["folders"] = {
            place.name: place.resolve() for place in Path(recorded["options"]["--adapter-preload-dir"]).iterdir()
        }
        yield Server(name, f"http://{kv_gib}", 0)

    for name in ("sums", "scorer"):
        (tmp_path / name).mkdir()
        config = {"peft_type": "LORA", "r": 24, "lora_alpha": 8, "target_modules": ["q_proj"]}
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(config))
        (tmp_path / name / "adapter_model.safetensors").write_bytes(name.encode())
    monkeypatch.setattr(servers, "ponder", ponder)
    monkeypatch.setattr(command, "claim", lambda label, *_: tmp_path / f"{label}.jsonl")
    monkeypatch.setattr(command, "answer_all", lambda url, batches, **how: recorded.update(url=url, batches=batches, **how))
    adapters = (f"verifier={tmp_path / 'scorer'}", f"suite={tmp_path / 'sums'}")
    chosen = ("--only-tasks", "gcd-*", "--only-runs", "direct", "best_of_n n=4", "--questions", 2)
    _called(monkeypatch, "run", "--label", "tiny", "--adapter", *adapters, *chosen)
    assert recorded["folders"] == {"suite": tmp_path / "sums", "verifier": tmp_path / "scorer"}
    assert (recorded["options"]["--adapter-slots"], recorded["options"]["--max-adapter-rank"]) == ("3", "32")
    assert (recorded["model"], recorded["keys"]) == ("suite", ["suite-0", "suite-1"])
    assert [work.task.name for work in recorded["batches"][0]] == ["gcd-1", "gcd-2", "gcd-3"]
    assert [run.name for run in recorded["batches"][0][0].runs] == ["direct", "best_of_n n=4"]


def _reply(request: httpx.Request) -> httpx.Response:
    body = json.loads(request.content)
    assert [message["role"] for message in body["messages"]] == ["user"]
    account = {
        "flops": {"total": 10**9, "saved_by_cache": 0},
        "tokens": {"decoded": 7, "verified": 0},
        "stop_reason": "completed",
    }
    return httpx.Response(200, json={"choices": [{"message": {"content": "#### 2"}}], "ponder": account})


@pytest.mark.anyio
async def test_a_run_resumes_where_the_last_one_stopped(tmp_path):
    prompts = []

    def answer(request):
        prompts.append(json.loads(request.content)["messages"][0]["content"])
        return _reply(request)

    work = [
        Work(questions.tasks()[name], RUNS[:2], questions.tasks()[name].load(12), Log(tmp_path / "tiny.jsonl"))
        for name in ("gcd-1", "products-1")
    ]
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://ponder") as client:
        session = Session(client, "tiny", ["a", "b"], 3, deadline=time.monotonic() + 60)
        await session.answer(Work(work[0].task, RUNS[:2], work[0].questions[:5], work[0].log))
        with work[0].log.path.open("ab") as file:
            file.write(b'{"run": "direct", "set')
        await session.answer(*work)
    assert len(prompts) == 2 * 2 * 12
    records = answers(tmp_path / "tiny.jsonl", questions.tasks())["direct"]
    assert {name: [record.question for record in found] for name, found in records.items()} == {
        "gcd-1": [*range(12)],
        "products-1": [*range(12)],
    }
    assert [record.is_right for record in records["gcd-1"]] == [question.is_right("#### 2") for question in work[0].questions]
    assert any(record.is_right for record in records["gcd-1"])
    record = records["products-1"][0]
    assert (record.task, record.bin, record.flops, record.tokens, record.seed) == ("products-1", 1, 10**9, 7, 1000)
    assert set(prompts[:20]) != set(prompts[20:])


def _record(task, number, *, is_right):
    run = RUNS[0]
    return Record(
        run.name, setup(task, run), number, 1000, is_right, "", 2 * 10**9, 0, 50, 0, 1.5, "completed", task.name, task.bin
    )


def test_tables_separate_bins_and_held_out_families(tmp_path):
    log, tasks = Log(tmp_path / "tiny.jsonl"), questions.tasks()
    for name, num_right in (("gcd-1", 4), ("gcd-3", 1), ("lcm-1", 2)):
        for number in range(4):
            log.append(_record(tasks[name], number, is_right=number < num_right))
    found = {"tiny": answers(log.path, tasks)}
    [row] = summary(found).rows
    assert (row["model"], row["run"], row["questions"]) == ("tiny", "direct", 12)
    assert row["bin 1"] == "100.0 (51.0 to 100.0)"
    assert row["bin 2"] == ""
    assert row["all"].startswith("62.5 ")
    assert row["held out"].startswith("50.0 ")
    assert (row["TFLOP/question"], row["tokens/question"]) == (0.002, 50)
    assert [(row["family"], row["bin"], row["held out"]) for row in details(found).rows] == [
        ("gcd", 1, False),
        ("gcd", 3, False),
        ("lcm", 1, True),
    ]


def test_a_label_has_one_model_with_its_adapters(tmp_path):
    adapter = tmp_path / "suite"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    assert claim("tiny", "smollm2", {"suite": adapter}, tmp_path) == tmp_path / "tiny.jsonl"
    assert claim("tiny", "smollm2", {"suite": adapter}, tmp_path) == tmp_path / "tiny.jsonl"
    (adapter / "adapter_model.safetensors").write_bytes(b"others")
    with pytest.raises(SystemExit, match="another --label"):
        claim("tiny", "smollm2", {"suite": adapter}, tmp_path)


def test_records_of_the_older_benchmark_still_count():
    for path in QUALITY.glob("*.jsonl"):
        task = quality_tasks()[path.stem.rpartition("-")[2]]
        counted = Log(path).read(task, QUALITY_RUNS[task.name])
        assert any(counted.values()), path


def test_all_records_of_the_suite_still_count():
    """A digest of the run is in each record, so a renamed option must not change it."""
    names = {run.name for run in (*THINKING, *THINKING_VOTES, *RUNS)}
    for path in FOLDER.glob("*.jsonl"):
        recorded = {(one.run, one.task) for one in Log(path).records() if one.run in names}
        counted = {(run, task) for run, by_task in answers(path, questions.tasks()).items() for task in by_task}
        assert counted == recorded, path


def test_an_option_has_the_digest_of_its_former_name():
    former, current = (Run("a", "self_consistency", {name: "equations"}) for name in ("veto", "filter"))
    task = questions.tasks()["gcd-1"]
    assert setup(task, former) == setup(task, current)


def test_a_task_changes_when_its_questions_do(monkeypatch):
    task = questions.tasks()["gcd-1"]
    monkeypatch.setattr(questions, "VERSION", questions.VERSION + 1)
    assert setup(questions.tasks()["gcd-1"], RUNS[0]) != setup(task, RUNS[0])


def test_skipped_questions_are_in_no_other_file():
    """So a verifier can be trained on answers to questions that the answering adapter was not trained on."""
    first = questions.mixed(["gcd", "chain_sum"], [1, 2], "train", 5)
    second = questions.mixed(["gcd", "chain_sum"], [1, 2], "train", 5, skip=5)
    assert len(first) == len(second) == 20
    assert {one.prompt for one in first}.isdisjoint(one.prompt for one in second)
