"""What an operator reads when vLLM cannot start: one line that says what to change."""

import json
import logging
import time
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig

from app.engine import free_memory
from app.engine.vllm import post_mortem
from app.engine.vllm.post_mortem import PostMortem, start_errors
from app.engine.vllm.reasons import MAX_CHARS, reason
from app.engine.weights.conversions import ModelUnavailable
from app.engine.worker.failures import FAILURES, report_failures


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> PostMortem:
    """Those of an engine whose processes have not failed."""
    monkeypatch.setenv(FAILURES, "")
    return PostMortem()


def told(traces: PostMortem, error: Exception) -> str:
    """The line for a start that ends with this error."""
    with pytest.raises(ModelUnavailable) as refused, start_errors("owner/name", traces):
        raise error
    return str(refused.value)


ANSWER = httpx2.Response(401, request=httpx2.Request("GET", "https://huggingface.co/owner/name/resolve/main/config.json"))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (GatedRepoError("403 Client Error. Access to model owner/name is restricted", response=ANSWER), "set HF_TOKEN"),
        (
            RepositoryNotFoundError("401 Client Error. Repository Not Found", response=ANSWER),
            "no such folder, and no such model on the hub",
        ),
        (RevisionNotFoundError("404 Client Error. Revision Not Found", response=ANSWER), "see --revision"),
        (LocalEntryNotFoundError("An error happened while trying to locate the file on the Hub"), "the hub cannot be asked"),
        (OfflineModeIsEnabled("Cannot reach https://huggingface.co: offline mode is enabled"), "the hub cannot be asked"),
        (HfHubHTTPError("429 Too Many Requests", response=ANSWER), "the hub refuses it: 429 Too Many Requests"),
    ],
)
def test_answers_of_the_hub(traces: PostMortem, error: Exception, expected: str) -> None:
    """Also where a library raises an error of its own because of them."""
    assert expected in told(traces, error)
    outer = OSError("Can't load the configuration of 'owner/name'.")
    outer.__cause__ = error
    assert expected in told(traces, outer)


def test_a_name_that_no_model_can_have(traces: PostMortem) -> None:
    """A relative path of several folders, for example."""
    with pytest.raises(HFValidationError) as raised:
        hf_hub_download("models/my/own", "config.json")
    assert "owner/name" in told(traces, raised.value)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "brand-new", "hidden_size": 8}, "does not know its model type brand-new"),
        ({"hidden_size": 8}, "names no known model_type"),
    ],
)
def test_configs_that_transformers_does_not_know(
    traces: PostMortem, tmp_path: Path, config: dict[str, object], expected: str
) -> None:
    """Its own message is a page."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="model") as raised:
        AutoConfig.from_pretrained(tmp_path)
    assert expected in told(traces, raised.value)


def test_damaged_weights(traces: PostMortem, tmp_path: Path) -> None:
    """A file that was not written to its end."""
    (tmp_path / "model.safetensors").write_bytes(b"\x80" + b"\x00" * 40)
    with pytest.raises(SafetensorError) as raised:
        safe_open(tmp_path / "model.safetensors", framework="np")
    assert "weights cannot be read" in told(traces, raised.value)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            (
                "ValueError: To serve at least one request with the model's max seq len (8192), (0.38 GiB KV cache is needed, which is"
                " larger than the available KV cache memory (0.05 GiB). Based on the available memory, the estimated maximum"
                " model length is 1088."
                " Try increasing `gpu_memory_utilization`"
            ),
            (
                "a context of 8192 tokens needs 0.38 GiB of KV cache, and there are 0.05 GiB: raise --kv-cache-gib (on a GPU"
                " --gpu-memory-utilization), or lower --max-model-len to 1088"
            ),
        ),
        (
            (
                "ValueError: To serve at least one request with the model's max seq len (8192), (0.38 GiB KV cache is needed, which is"
                " larger than the available KV cache memory (0.05 GiB). Try increasing"
            ),
            "or lower --max-model-len",
        ),
        (
            "ValueError: Available memory on node 0 (3.1/23.5 GiB) on kv cache allocation is less than requested memory for kv (9.0 GiB).",
            "a KV cache of 9.0 GiB does not fit into 3.1 GiB of free memory: lower --kv-cache-gib",
        ),
        (
            "ValueError: Free memory on device cuda:0 (3.1/79.2 GiB) on startup is less than desired GPU memory utilization (0.9, 71 GiB).",
            "lower --gpu-memory-utilization",
        ),
        ("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "the GPU's memory is too small"),
        (
            "RuntimeError: [enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory",
            "lower --kv-cache-gib",
        ),
        (
            "ValueError: Model architectures ['NewForCausalLM'] are not supported for now. Supported: dict_keys(['A'])",
            "'NewForCausalLM'",
        ),
        ("ValueError: Unknown quantization method: awqq. Must be one of ['awq', 'fp8'].", "take int8, or one of 'awq', 'fp8'"),
        (
            (
                "ValueError: Quantization method specified in the model config (fp8) does not match the quantization method specified in"
                " the `quantization` argument (awq)."
            ),
            "its weights are quantised as fp8, not as awq",
        ),
        (
            "ValueError: MambaForCausalLM does not support LoRA yet.",
            "vLLM has no LoRA for MambaForCausalLM: set --adapter-slots 0",
        ),
        ("RuntimeError: Cannot find any model weights with `/models/empty`", "it has no weights"),
        (
            "ValueError: Attempted to load weight (torch.Size([4])) into parameter (torch.Size([8]))",
            "the sizes in its config.json",
        ),
        ("ValueError: Could not detect config format for no config file found.", "it has no config.json"),
        (
            "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': -9}",
            "was killed",
        ),
        ("RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}", "--log-level debug"),
    ],
)
def test_errors_of_vllm(said: str, expected: str) -> None:
    """In vLLM's words of 0.32, and in ours."""
    assert expected in reason([said])


def test_what_nobody_has_thought_of_is_told_as_it_is() -> None:
    """In one line of a bounded length. The name of an exception is told where its message needs it."""
    assert reason(["ValueError: a  long\nstory"]) == "a long story"
    assert reason(["KeyError: 'rope'"]) == "KeyError: 'rope'"
    assert reason(["AssertionError: "]) == "AssertionError"
    assert (
        reason(["ValidationError: 1 validation error for X\n  Value error, too few [type=value_error, input_value=1]"])
        == "too few"
    )
    assert len(reason([f"ValueError: {'x' * 5000}"])) == MAX_CHARS


def test_the_first_failure_in_a_process_is_the_cause(traces: PostMortem, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server itself hears only that a process failed, and so does the process that watches it. A death later has other causes."""
    logger = logging.getLogger("vllm")
    before = list(logger.handlers)
    report_failures()
    try:
        for failed in (ValueError("too many heads"), RuntimeError("WorkerProc failed, see stack trace for root cause")):
            logger.error("failed", exc_info=failed)
    finally:
        logger.handlers = before
    assert told(traces, RuntimeError("See root cause above.")) == "owner/name: too many heads"
    assert traces.of_death() == "the engine process died: too many heads"
    monkeypatch.setattr(time, "time", lambda: 1e12)
    assert traces.of_death() == "the engine process died"


def test_an_engine_that_the_kernel_killed_for_memory_is_named_as_that(
    traces: PostMortem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start and while serving. The counter of kills tells it."""
    assert traces.of_death() == "the engine process died"
    kills = free_memory.oom_kills()
    monkeypatch.setattr(post_mortem, "oom_kills", lambda: kills + 1)
    assert "for lack of memory: lower --kv-cache-gib" in told(traces, RuntimeError("See root cause above."))
    assert "for lack of memory: lower --kv-cache-gib" in traces.of_death()
