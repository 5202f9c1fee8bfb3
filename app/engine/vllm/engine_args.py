"""Options of vLLM's engine that the operator gives as on vLLM's own command line."""

import argparse
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, NoReturn

from vllm import AsyncEngineArgs
from vllm.utils.argparse_utils import FlexibleArgumentParser

from app.engine.vllm.reasons import MAX_CHARS
from app.engine.weights.conversions import ModelUnavailable
from app.settings import Settings

OWNED: Mapping[str, str] = MappingProxyType(
    {
        "model": "name the model first, or use --model",
        "served_model_name": "use --model-name",
        "max_num_seqs": "use --max-branches",
        "enable_lora": "use --adapter-slots",
        "max_loras": "use --adapter-slots",
        "max_cpu_loras": "use --adapter-slots",
        "max_lora_rank": "use --max-adapter-rank",
        "lora_target_modules": "adapters may train the linear modules of the layers",
        "scheduling_policy": "ponder schedules branches by priority; use --no-priorities for none",
        "worker_extension_cls": "ponder extends vLLM's workers itself",
        "structured_outputs_config": "ponder compiles grammars with xgrammar",
        "disable_log_stats": "vLLM's metrics are part of /metrics",
        "enable_log_requests": "ponder logs no prompts",
        "allowed_media_domains": "ponder reads URLs of images itself; give the option to `ponder serve`",
        "allowed_local_media_path": "ponder reads no files for a request",
        "enable_mm_embeds": "ponder takes images, and no embeddings",
        "enable_prompt_embeds": "ponder takes texts and tokens, and no embeddings",
        "runner": "ponder serves models that generate text",
        "headless": "one process of ponder serves one engine",
    }
)
"""The options of vLLM's engine that ponder sets itself, each with what an operator does instead."""

OF_SERVER: Mapping[str, str] = MappingProxyType(
    {
        "--api-key": "use --api-keys",
        "--uvicorn-log-level": "use --log-level",
        "--allowed-origins": "use --cors-origins",
        "--enable-auto-tool-choice": "tools are always offered; use --tool-call-parser",
        "--lora-modules": "use `ponder adapters push`, or --adapter-preload-dir",
    }
)
"""Options of vLLM's HTTP server with what stands for them here."""


def parse_engine_args(words: Sequence[str]) -> dict[str, Any]:
    """Return the fields of vLLM's engine arguments that `words` set, and no defaults.

    Raises:
        ModelUnavailable: an option is not vLLM's, has a wrong value, or is one that ponder sets itself.

    """
    if not words:
        return {}
    parser = AsyncEngineArgs.add_cli_args(_Parser(prog="ponder serve", add_help=False, allow_abbrev=False))
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    try:
        given = vars(parser.parse_args(list(words)))
    except (ValueError, RecursionError) as error:  # of a value that is nested too deep, for example
        raise ModelUnavailable(_one_line(str(error))) from error
    for name in given.keys() & OWNED.keys():
        raise ModelUnavailable(f"--{name.replace('_', '-')} is not taken: {OWNED[name]}")
    return given


class _Parser(FlexibleArgumentParser):
    """vLLM's parser, whose errors are raised instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        _, is_unknown, words = message.partition("unrecognized arguments: ")
        if not is_unknown:
            raise ModelUnavailable(_one_line(message))
        name = next((word.partition("=")[0] for word in words.split()), "''")
        instead = OF_SERVER.get(name, "")
        own = (f"--{field.replace('_', '-')}" for field in Settings.model_fields)
        near = get_close_matches(name, [*own, *self._option_string_actions], 1, cutoff=0.75)
        hint = instead or (f"did you mean {near[0]}?" if near else "neither ponder nor vLLM's engine has it")
        raise ModelUnavailable(f"{name} is not an option: {hint}")


def _one_line(message: str) -> str:
    return " ".join(message.split())[:MAX_CHARS]
