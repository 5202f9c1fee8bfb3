"""The training commands as a user types them, with the embedded model, and a server that serves their results."""

import json
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.server import BIN, Server

FEW = ["--context", "256", "--batch", "2", "--max-steps", "3", "--every", "2"]
TINY = ["--rank", "4", "--alpha", "8", *FEW]


def run(*arguments: object) -> str:
    done = subprocess.run([BIN / "ponder", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def write_lines(path: Path, lines: list[dict]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def chats(tmp_path_factory) -> Path:
    """All questions have the same answer, so that a few steps teach it."""
    asked = [f"What is {a} + {b}?" for a in range(8) for b in range(8)]
    chats = [{"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "Seven."}]} for text in asked]
    return write_lines(tmp_path_factory.mktemp("data") / "chats.jsonl", chats)


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> Path:
    asked = [{"messages": [{"role": "user", "content": f"What is {a} + 1?"}], "answer": str(a + 1)} for a in range(12)]
    return write_lines(tmp_path_factory.mktemp("data") / "questions.jsonl", asked)


def says(server: Server, model: str, text: str = "What is 3 + 4?", **fields: object) -> dict:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 12, "temperature": 0, **fields}
    reply = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=300)
    assert reply.status_code == 200, reply.text
    return reply.json()


@pytest.fixture
def push(server: Server):
    """Push a folder as an adapter of the shared server, and delete the adapter afterwards."""
    pushed = []

    def push(name: str, folder: Path) -> None:
        run("adapters", "push", name, folder, "--url", server.url)
        pushed.append(name)

    yield push
    for name in pushed:
        httpx.delete(f"{server.url}/v1/adapters/{name}", timeout=60).raise_for_status()


@pytest.mark.vllm
@pytest.mark.parametrize("command", ["lora", "qlora"])
def test_a_trained_adapter_answers_as_it_has_learned(command, chats, server, push, tmp_path):
    """The rows are few and short, since on CPU each pass unpacks all 4-bit weights again."""
    out = tmp_path / "seven"
    steps = ["--max-steps", "8", "--batch", "1", "--context", "64", "--learning-rate", "1e-2", "--every", "50"]
    run("train", command, "--data", chats, "--out", out, *TINY, *steps)
    push("seven", out)
    assert says(server, "seven")["choices"][0]["message"]["content"] == "Seven."
    assert says(server, "smollm2-135m")["choices"][0]["message"]["content"] != "Seven."


@pytest.mark.vllm
def test_a_server_is_the_teacher(questions, server, tmp_path):
    """The shared server answers, and its right answers are learned."""
    out = tmp_path / "taught"
    asked = ["--prompts", questions, "--teacher", server.url, "--teacher-model", "smollm2-135m", "--samples", "4"]
    run("train", "distill", *asked, "--max-tokens", "32", "--out", out, *TINY)
    samples = [json.loads(line) for line in (tmp_path / "taught.samples.jsonl").read_text().splitlines()]
    assert len(samples) == 12
    assert all(one["flops"] > 0 and len(one["answers"]) == 4 for one in samples)
    assert (out / "adapter_model.safetensors").exists()


@pytest.mark.vllm
def test_a_verifier_is_asked_as_in_its_training(questions, server, push, tmp_path):
    """The command labels answers of a server that it starts. The trained adapter then selects candidates of the shared one."""
    out = tmp_path / "judge"
    asked = [
        "--prompts",
        questions,
        "--samples",
        "6",
        "--max-tokens",
        "64",  # an answer that is cut is not labelled
        "--temperature",
        "1.0",
        "--validation-share",
        "0.3",
    ]
    run("train", "verifier", *asked, "--out", out, *TINY)
    push("judge", out)
    shown = httpx.get(f"{server.url}/v1/adapters/judge", timeout=60).json()
    assert shown["versions"][0]["verifier_prompt"] == json.loads((out / "ponder.json").read_text())["verifier_prompt"]
    options = {"strategy": "best_of_n", "n": 4, "verifier": {"adapter": "judge"}}
    account = says(server, "smollm2-135m", ponder=options, temperature=1.0)["ponder"]
    assert account["tokens"]["verified"] > 0


@pytest.mark.vllm
def test_a_pruned_model_is_served(chats, start_server, tmp_path):
    out = tmp_path / "small"
    run("prune", "--data", chats, "--calibration", "8", "--mlp-channels", "1280", "--kv-heads", "2", "--layers", "28",
        "--out", out, *FEW)  # fmt: skip
    config = json.loads((out / "config.json").read_text())
    assert (config["intermediate_size"], config["num_key_value_heads"], config["num_hidden_layers"]) == (1280, 2, 28)
    server = start_server("--model", str(out), "--adapter-slots", "0")
    assert says(server, "small")["usage"]["completion_tokens"] > 0


@pytest.mark.vllm
def test_the_shipped_adapter_works_in_steps(server):
    """It is listed beside the base model, and answers in steps as it was trained."""
    names = [one["id"] for one in httpx.get(f"{server.url}/v1/models", timeout=60).json()["data"]]
    assert {"smollm2-135m", "reasoning"} <= set(names)
    task = "How many 1 bits are there in the binary representation of the number 300?\n"
    steps = "Work it out in short steps, then give the final answer alone on the last line, after `####`."
    said = says(server, "reasoning", task + steps, max_tokens=128)["choices"][0]["message"]["content"]
    assert len(said.splitlines()) > 2
    assert "\n#### " in said


@pytest.mark.vllm
def test_auto_uses_the_shipped_policy(server):
    """The plan is calibrated for the adapter and not for the base model, and the reported difficulty agrees with that."""
    task = "Calculate 17 + 25 + 8 - 3."
    fields = {"temperature": None, "max_tokens": 128, "ponder": {"strategy": "auto", "effort": "high"}}
    known = says(server, "reasoning", task, **fields)["ponder"]
    assert known["plan"]["calibrated"]
    assert 0 <= known["difficulty"]["before"] <= 1
    assert known["strategy"] in {"direct", "adaptive"}
    unknown = says(server, "smollm2-135m", task, **fields)["ponder"]
    assert not unknown["plan"]["calibrated"]
    assert (known["difficulty"]["estimator"], unknown["difficulty"]["estimator"]) == ("calibrated", "general")
