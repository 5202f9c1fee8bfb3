"""EleutherAI's lm-eval on tasks made from a local file, against its own `hf` backend on the same weights."""

import json
from itertools import pairwise

import lm_eval
import pytest
from lm_eval.tasks import TaskManager

from app.engine.weights.default_model import ensure_default_model
from app.settings import Settings
from tests.clients.conftest import MODEL

ITEMS = 40
COLOURS = ["red", "green", "blue", "white", "black"]
THINGS = ["sky", "grass", "snow", "coal", "blood", "milk", "sea", "leaf"]


@pytest.fixture(scope="module")
def folder() -> str:
    """The weights that the server has."""
    return str(ensure_default_model(Settings().cache_dir.expanduser(), print))


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Choose a colour for a thing, of one to three tokens; and write one."""
    data = tmp_path_factory.mktemp("lm-eval") / "colours.jsonl"
    rows = [
        {"question": f"{article} {thing} is", "choices": [*COLOURS, f"not {colour} at all"], "answer": number % 5}
        for number, (thing, colour, article) in enumerate(
            (thing, colour, article)
            for thing in THINGS
            for colour, article in zip(COLOURS, ["The", "My", "This", "A", "Our"], strict=True)
        )
    ]
    assert len(rows) == ITEMS
    data.write_text("\n".join(map(json.dumps, rows)))
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "doc_to_text": "question",
    }
    return {
        "choose": {
            **common,
            "task": "choose",
            "output_type": "multiple_choice",
            "doc_to_choice": "choices",
            "doc_to_target": "answer",
        },
        "write": {
            **common,
            "task": "write",
            "output_type": "generate_until",
            "doc_to_target": "{{choices[answer]}}",
            "generation_kwargs": {"until": ["."], "max_gen_toks": 8, "temperature": 0},
            "metric_list": [{"metric": "exact_match"}],
        },
    }


def evaluate(task: dict, model: str, limit: int = ITEMS, **arguments) -> list[dict]:
    """Return the samples of a task in the order of the file."""
    results = lm_eval.simple_evaluate(
        model=model,
        model_args=arguments.pop("model_args"),
        tasks=[task],
        task_manager=TaskManager(include_defaults=False),
        limit=limit,
        bootstrap_iters=0,
        **arguments,
    )
    return sorted(results["samples"][task["task"]], key=lambda sample: sample["doc_id"])


def likelihoods(sample: dict) -> list[float]:
    """The log-likelihood of each choice."""
    return [float(loglikelihood) for loglikelihood, _ in sample["filtered_resps"]]


def test_completions_choose_as_the_hf_backend(url, folder, tasks) -> None:
    """The same choice for every item, by the same log-likelihoods."""
    arguments = {"model": MODEL, "base_url": f"{url}/completions", "tokenizer": folder, "num_concurrent": 4}
    ours = evaluate(tasks["choose"], "local-completions", model_args=arguments)
    theirs = evaluate(
        tasks["choose"], "hf", model_args={"pretrained": folder, "dtype": "float32", "device": "cpu"}, batch_size=16
    )
    assert len(ours) == len(theirs) == ITEMS
    for one, other in zip(map(likelihoods, ours), map(likelihoods, theirs), strict=True):
        assert one == pytest.approx(other, abs=1e-2)
        assert one.index(max(one)) == other.index(max(other))
    assert any(one != other for one, other in pairwise(map(likelihoods, ours)))


def test_completions_write(url, folder, tasks) -> None:
    """Text up to a stop string."""
    arguments = {"model": MODEL, "base_url": f"{url}/completions", "tokenizer": folder, "num_concurrent": 4}
    samples = evaluate(tasks["write"], "local-completions", limit=4, model_args=arguments)
    assert all(sample["filtered_resps"][0] for sample in samples)


def test_chat(url, tasks) -> None:
    """`local-chat-completions`."""
    arguments = {"model": MODEL, "base_url": f"{url}/chat/completions", "num_concurrent": 4}
    samples = evaluate(tasks["write"], "local-chat-completions", limit=4, model_args=arguments, apply_chat_template=True)
    assert all(sample["filtered_resps"][0] for sample in samples)


def test_strategy_by_name(url, tasks) -> None:
    """The model's name carries the strategy, at a temperature at which samples differ."""
    arguments = {"model": f"{MODEL}@best_of_n", "base_url": f"{url}/chat/completions"}
    options = {"apply_chat_template": True, "gen_kwargs": {"temperature": 0.7}}
    samples = evaluate(tasks["write"], "local-chat-completions", limit=2, model_args=arguments, **options)
    assert all(sample["filtered_resps"][0] for sample in samples)
