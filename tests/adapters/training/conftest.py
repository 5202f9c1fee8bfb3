"""A model that is small enough to be trained within a test, and data that it can learn."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.training.ports import Progress, TrainingEnvironment
from adapters.training.recipe import Job, Recipe
from app.lab.training.environment import flops_counter

CHATS = [
    {"messages": [{"role": "user", "content": f"{a} + {b}?"}, {"role": "assistant", "content": f"{a + b}"}]}
    for a in range(6)
    for b in range(6)
]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a Llama with 2 layers of width 64, and a tokenizer of bytes with the embedded model's chat template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from app.engine.weights.default_model import CHAT_TEMPLATE

    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: number for number, token in enumerate([*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    bytewise = Tokenizer(models.BPE(vocabulary, []))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytewise, bos_token=specials[1], eos_token=specials[2], pad_token=specials[2],
        additional_special_tokens=specials,
    )  # fmt: skip
    tokenizer.add_tokens([" Yes", " No"])  # a verifier's words are one token each, as in real models
    tokenizer.chat_template = CHAT_TEMPLATE.read_text()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
        initializer_range=0.2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "tiny"
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """36 sums of one digit."""
    return write_lines(tmp_path / "chats.jsonl", CHATS)


def write_lines(path: Path, lines: list[object]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def job(tiny: Path, chats: Path, tmp_path: Path) -> Callable[..., Job]:
    """`job(max_steps=4, …)`: a job that trains the tiny model on the sums, with these hyper-parameters."""

    def make(out: str = "out", *, data: Path = chats, validation: Path | None = None, **recipe: object) -> Job:
        recipe = {"rank": 4, "alpha": 8, "context": 128, "batch": 2, "learning_rate": 5e-3, "every": 4, **recipe}
        return Job(model=tiny, data=data, validation=validation, out=tmp_path / out, recipe=Recipe(**recipe))

    return make


class Watcher:
    """Keeps what a run reports."""

    def __init__(self) -> None:
        self.steps: list[Progress] = []
        self.lines: list[str] = []

    @property
    def environment(self) -> TrainingEnvironment:
        return TrainingEnvironment(
            flops_counter=flops_counter, report=self.steps.append, say=self.lines.append, machine="a test"
        )


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()
