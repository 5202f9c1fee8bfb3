"""Options that the operator gives to vLLM's engine. They are parsed by vLLM's own parser; no engine is started."""

import pytest

from app.engine.vllm.options import EngineOptions
from app.engine.weights.conversions import ModelUnavailable

pytestmark = pytest.mark.vllm


def arguments(*words: str):
    from app.engine.vllm.arguments import engine_arguments

    return engine_arguments(EngineOptions(model=".", name="model", engine_args=words))


def test_every_option_of_the_engine_arrives() -> None:
    """With vLLM's own defaults for what is not given, and ours for what we set."""
    made = arguments(
        "-tp", "2", "--pipeline-parallel-size", "3", "--data-parallel-size", "4", "--enable-expert-parallel",
        "--kv-cache-dtype", "fp8", "--speculative-config.method", "ngram", "--speculative-config.num_speculative_tokens", "3",
        "--distributed-executor-backend", "ray", "--revision", "abc", "--tokenizer", "other", "--seed", "7", "--load-format", "dummy",
    )  # fmt: skip
    assert (made.tensor_parallel_size, made.pipeline_parallel_size, made.data_parallel_size) == (2, 3, 4)
    assert (made.enable_expert_parallel, made.kv_cache_dtype, made.distributed_executor_backend) == (True, "fp8", "ray")
    assert made.speculative_config == {"method": "ngram", "num_speculative_tokens": 3}
    assert (made.revision, made.tokenizer, made.seed, made.load_format) == ("abc", "other", 7, "dummy")
    assert (made.scheduling_policy, made.enable_prefix_caching, made.trust_remote_code) == ("priority", True, False)
    assert arguments("--trust-remote-code").trust_remote_code


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--max-num-seqs 3", "--max-branches"),
        ("--enable-lora", "--adapter-slots"),
        ("--scheduling-policy fcfs", "priority"),
        ("--worker-extension-cls a.B", "itself"),
        ("--api-key k", "--api-keys"),
        ("--tensor-paralel-size 2", "did you mean --tensor-parallel-size"),
        ("--prot 1", "did you mean --port"),
        ("--seed x", "--seed"),
        ("--tokenizer", "--tokenizer"),
        ("--nothing-like-it 1", "neither"),
    ],
)
def test_others_are_refused_by_name(words: str, said: str) -> None:
    """With what to use instead, where there is something."""
    with pytest.raises(ModelUnavailable, match=said) as error:
        arguments(*words.split())
    assert words.split(maxsplit=1)[0] in str(error.value)
