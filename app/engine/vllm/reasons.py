"""Turns the exception that ended vLLM's start, or one of its processes, into one line that tells the operator what to change."""

import re
from collections.abc import Sequence

from pydantic import ValidationError

MAX_CHARS = 600
"""The most characters of a library's own message."""

LOWER = "lower --kv-cache-gib, --adapter-slots or --max-branches, or take a smaller model"
"""What to do where the memory of the machine is too small."""

_LONG_CONTEXT = (
    r"max seq len \((\d+)\), \(([\d.]+) GiB KV cache is needed.*?available KV cache memory \(([\d.]+) GiB\)",
    (
        r"a context of \1 tokens needs \2 GiB of KV cache, and there are \3 GiB: raise --kv-cache-gib (on a GPU"
        r" --gpu-memory-utilization), or lower --max-model-len"
    ),
)

REASONS: tuple[tuple[str, str], ...] = (
    # Memory
    (rf"{_LONG_CONTEXT[0]}.*?estimated maximum model length is (\d+)", rf"{_LONG_CONTEXT[1]} to \4"),
    _LONG_CONTEXT,
    (
        r"on node \S+ \(([\d.]+)/[\d.]+ GiB\) on kv cache allocation is less than requested memory for kv \(([\d.]+)",
        r"a KV cache of \2 GiB does not fit into \1 GiB of free memory: lower --kv-cache-gib",
    ),
    (
        r"Free memory on device \S+ \(([\d.]+)/[\d.]+ GiB\) on startup is less than desired GPU memory utilization \(([\d.]+)",
        r"the GPU has \1 GiB of free memory, less than the share of \2: lower --gpu-memory-utilization, or end what uses it",
    ),
    (r"No available memory for the cache blocks", "no memory is left for the KV cache: raise --gpu-memory-utilization"),
    (
        r"OutOfMemoryError|CUDA out of memory",
        (
            "the GPU's memory is too small: lower --max-model-len or --max-branches, take quantised weights,"
            " or divide the model by --tensor-parallel-size"
        ),
    ),
    (
        r"can't allocate memory|bad_alloc|Cannot allocate memory|MemoryError",
        f"the memory is too small: {LOWER}",
    ),
    (
        r"Failed core proc\(s\): [^\n]*: -9\b|died unexpectedly \(exit code: -9\)",
        f"a process of the engine was killed, which the kernel does where memory runs out: {LOWER}",
    ),
    # The hub
    (r"GatedRepoError|gated repo", "access to it is restricted: ask for it on its page of the hub, and set HF_TOKEN"),
    (r"RevisionNotFoundError", "the hub has no such revision of it: see --revision"),
    (
        r"RepositoryNotFoundError|is not a valid model identifier|is not a local folder or a valid repository",
        "there is no such folder, and no such model on the hub; for a private one, set HF_TOKEN",
    ),
    (r"HFValidationError", "there is no such folder, and a model on the hub has another form of name: owner/name"),
    (
        (
            r"OfflineModeIsEnabled|LocalEntryNotFoundError|couldn't connect"
            r"|outgoing traffic has been disabled"
        ),
        "there is no such folder, and the hub cannot be asked for it: it cannot be reached, or HF_HUB_OFFLINE is set",
    ),
    (r"HfHubHTTPError: (\d{3}[^\n]{0,80})", r"the hub refuses it: \1"),
    # config.json
    (r"Model architectures \[(.*?)\] are not supported", r"vLLM does not know its architecture \1"),
    (r"model type `(\S+?)` but Transformers does not recognize", r"vLLM does not know its model type \1"),
    (r"JSONDecodeError|is not a valid JSON file", "its config.json is no JSON"),
    (r"Should have a `model_type` key", "its config.json names no known model_type"),
    (
        r"Could not detect config format|Invalid repository ID or local directory",
        "it has no config.json, so it is no model: name a folder with safetensors and a config.json, or a model on the hub",
    ),
    (
        r"custom code which must be executed|execute the configuration file in that repo",
        "it brings code of its author: --trust-remote-code runs that",
    ),
    (
        r"Unknown quantization method: (\S+?)\. Must be one of \[(.*?)\]",
        r"there is no quantization \1: take int8, or one of \2",
    ),
    (
        r"specified in the model config \((\S+)\) does not match the quantization method .*?argument \((\S+?)\)",
        r"its weights are quantised as \1, not as \2: leave --quantization out",
    ),
    (r"(\w+) does not support LoRA", r"vLLM has no LoRA for \1: set --adapter-slots 0"),
    # Weights
    (
        r"SafetensorError|deserializing header|invalid load key|UnpicklingError|PytorchStreamReader",
        "its weights cannot be read: a file is damaged or incomplete",
    ),
    (r"Cannot find any model weights", "it has no weights: no file *.safetensors or *.bin"),
    (
        r"Attempted to load weight \((.*?)\) into parameter \((.*?)\)|size mismatch for",
        "its weights do not have the sizes in its config.json",
    ),
    (r"root cause", "a process of the engine ended and did not say why: --log-level debug shows its log"),
)
"""Patterns of what libraries say, each with what an operator reads instead. The first pattern that matches counts."""


def reason(found: Sequence[str]) -> str:
    """Return what an operator reads. `found` are the exception and its causes, each as "Kind: message"."""
    text = "\n".join(found)
    for pattern, words in REASONS:
        if match := re.search(pattern, text, re.DOTALL):
            return " ".join(match.expand(words).split())
    kind, _, message = found[0].partition(": ")
    message = " ".join(message.split())
    if kind == ValidationError.__name__ and (
        told := re.search(r"(?:Value error|Assertion failed), (.*?)(?: \[type=|$)", message)
    ):
        return told[1][:MAX_CHARS]
    plain = kind in {"ValueError", "RuntimeError", "Exception", "OSError", "NotImplementedError"} and message
    return (message if plain else f"{kind}: {message}".removesuffix(": "))[:MAX_CHARS]
