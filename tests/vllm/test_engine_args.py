"""Options that the operator gives to vLLM's engine. They are parsed by vLLM's own parser; no engine is started."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from app.engine.vllm.options import EngineOptions
from app.engine.weights.conversions import ModelUnavailable
from app.engine.weights.default_model import ensure_default_model
from app.settings import Settings, read_settings

pytestmark = pytest.mark.vllm


@pytest.fixture(autouse=True)
def may_ask_the_hub(monkeypatch):
    """As in a process that serves a model of the hub. Without the hub, vLLM looks for every model and tokenizer on disk."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


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


@pytest.mark.parametrize(
    "words",
    [
        ("--speculative-config", "[" * 5000), ("--seed", "1" * 5000), ("--config", "/etc/passwd"), ("",),
        ("--compilation-config.mode", "x"), ("--tensor-parallel-size", "0"), ("--tensor-parallel-size", "1" * 30),
        ("--data-parallel-size", "-1"),
    ],
)  # fmt: skip
def test_what_no_parser_can_read_is_refused_in_one_line(words: tuple[str, ...]) -> None:
    """And never ends the start with a traceback, or without end."""
    with pytest.raises(ModelUnavailable) as error:
        arguments(*words)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) <= 600


def test_a_typo_in_a_file_of_options_is_refused(tmp_path: Path) -> None:
    """As one on the command line."""
    (tmp_path / "server.yaml").write_text("tensor-paralel-size: 2", encoding="utf-8")
    settings = read_settings({"config": str(tmp_path / "server.yaml")})
    with pytest.raises(ModelUnavailable, match="did you mean --tensor-parallel-size"):
        arguments(*settings.engine_args)


def built(*words: str, model: str):
    """Return the configuration that vLLM's engine would start with."""
    from app.engine.vllm.arguments import engine_arguments
    from app.engine.vllm.post_mortem import start_errors

    with start_errors(model):
        return engine_arguments(EngineOptions(model=model, name="model", engine_args=words)).create_engine_config()


@pytest.fixture(scope="module")
def embedded() -> str:
    """The folder of the embedded model, which has nine heads and thirty layers."""
    return str(ensure_default_model(Settings().cache_dir.expanduser(), print))


def test_several_devices_reach_the_engine(embedded: str) -> None:
    """With all else that is given beside them. Each data-parallel rank has the branches of `--max-branches`."""
    config = built(
        "-tp", "3", "-pp", "2", "--data-parallel-size", "2", "--kv-cache-dtype", "fp8", "--load-format", "dummy", "--seed", "7",
        "--revision", "abc", "--speculative-config", '{"method": "ngram", "num_speculative_tokens": 3}', model=embedded,
    )  # fmt: skip
    parallel = config.parallel_config
    assert (parallel.tensor_parallel_size, parallel.pipeline_parallel_size, parallel.data_parallel_size) == (3, 2, 2)
    assert parallel.world_size == 6  # of one data-parallel rank
    assert config.scheduler_config.max_num_seqs == EngineOptions(model="", name="").max_branches
    assert (config.cache_config.cache_dtype, config.load_config.load_format) == ("fp8", "dummy")
    assert (config.model_config.seed, config.model_config.revision) == (7, "abc")
    assert config.scheduler_config.policy == "priority"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-tp 2", "9"),  # heads
        ("--max-model-len 999999", "999999|8192"),
        ("--per-request-spec-decode-metrics summary", "speculative"),
        ("--kv-cache-dtype fp9", "fp9"),
        ('--speculative-config {"method":"ngram"}', "num_speculative_tokens"),
    ],
)
def test_what_contradicts_the_model_or_itself_is_refused(words: str, said: str, embedded: str) -> None:
    """With vLLM's words for it."""
    with pytest.raises(ModelUnavailable, match=said):
        built(*words.split(), model=embedded)


@pytest.mark.parametrize(
    "config", ["", "{", "[]", "{}", '{"model_type": "new"}', '{"architectures": ["New"], "model_type": "llama"}']
)
def test_a_config_that_tells_too_little_is_refused(tmp_path: Path, config: str) -> None:
    """Before anything is loaded."""
    (tmp_path / "config.json").write_text(config, encoding="utf-8")
    with pytest.raises(ModelUnavailable, match=str(tmp_path)):
        built(model=str(tmp_path))


@pytest.mark.anyio
async def test_parameters_and_the_peak_are_those_of_all_workers() -> None:
    """Tensor and pipeline parallelism divide the model among them; each data-parallel rank holds it whole."""
    from app.engine.vllm.engine import VllmEngine

    answers = {"ponder_count_parameters": [60, 40], "ponder_measure_peak": [1.0, 2.0]}

    async def rpc(name: str) -> list[float]:
        return answers.get(name, [])

    parallel = SimpleNamespace(world_size=2, data_parallel_size=4)
    llm = SimpleNamespace(collective_rpc=rpc, vllm_config=SimpleNamespace(parallel_config=parallel))
    engine = VllmEngine(EngineOptions(model=".", name="model"))
    assert await engine._num_parameters(llm) == 100
    assert await engine._extend_worker(llm) == 12
