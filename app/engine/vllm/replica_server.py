"""vLLM's own HTTP server over the engine that ponder would start: a replica for front ends elsewhere."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import uvloop
from vllm.entrypoints.launchers.api_server.entry import run_server
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

from app.engine.vllm.arguments import engine_arguments
from app.engine.vllm.cpu_memory import reserve_memory
from app.engine.vllm.hub import ask_hub
from app.engine.vllm.options import EngineOptions
from app.engine.vllm.post_mortem import PostMortem, start_errors
from app.engine.vllm.repairs import REPAIRS, repair_server


def server_arguments(options: EngineOptions, host: str, port: int, api_keys: Sequence[str]) -> Any:
    """Return the arguments of vLLM's server: its own defaults, our engine, and the routes that front ends need."""
    arguments = make_arg_parser(FlexibleArgumentParser()).parse_args([])
    engine = engine_arguments(options)
    for field in dataclasses.fields(engine):
        setattr(arguments, field.name, getattr(engine, field.name))
    arguments.host, arguments.port, arguments.api_key = host, port, list(api_keys) or None
    arguments.enable_scale_out = arguments.enable_prompt_tokens_details = True
    arguments.disable_uvicorn_access_log = True
    return arguments


def run(options: EngineOptions, host: str, port: int, api_keys: Sequence[str]) -> None:
    """Serve until a signal ends it. Raises `ModelUnavailable` where the engine does not start."""
    os.environ[REPAIRS] = "1"
    os.environ["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    repair_server()
    with start_errors(options.model, PostMortem()):
        ask_hub(options.model)
        arguments = server_arguments(options, host, port, api_keys)
        if options.is_cpu:
            reserve_memory(options, engine_arguments(options))
        uvloop.run(run_server(arguments))
