"""vLLM's own HTTP server over the engine that ponder would start: a replica for front ends elsewhere."""

import dataclasses
import math
import os
from collections.abc import Callable
from typing import Any

import uvloop
from vllm.entrypoints.cli.serve import run_headless
from vllm.entrypoints.launchers.api_server.entry import run_server
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

from adapters.object_store import AdapterCache
from app.engine.vllm.arguments import engine_arguments
from app.engine.vllm.cpu_memory import reserve_memory, share_processors
from app.engine.vllm.hub import ask_hub
from app.engine.vllm.options import EngineOptions
from app.engine.vllm.post_mortem import PostMortem, start_errors
from app.engine.vllm.repairs import REPAIRS, repair_server
from app.settings import AddressSettings


def server_arguments(options: EngineOptions, settings: AddressSettings) -> Any:
    """Return the arguments of vLLM's server: its own defaults, our engine, and the routes that front ends need."""
    arguments = make_arg_parser(FlexibleArgumentParser()).parse_args([])
    engine = engine_arguments(options)
    for field in dataclasses.fields(engine):
        setattr(arguments, field.name, getattr(engine, field.name))
    arguments.host, arguments.port, arguments.api_key = settings.host, settings.port, list(settings.api_keys) or None
    arguments.shutdown_timeout = engine.shutdown_timeout or math.ceil(settings.drain_seconds)
    arguments.enable_scale_out = arguments.enable_prompt_tokens_details = True
    arguments.disable_uvicorn_access_log = True
    return arguments


def program_of(arguments: Any) -> Callable[[Any], None]:
    """Return what this process does: of several nodes (`--nnodes`), the first serves, and the others compute for it."""
    return _compute if arguments.node_rank > 0 else _serve


def _serve(arguments: Any) -> None:
    uvloop.run(run_server(arguments))


def _compute(arguments: Any) -> None:
    arguments.api_server_count = 0
    run_headless(arguments)


def run(options: EngineOptions, settings: AddressSettings, cache: AdapterCache | None = None) -> None:
    """Serve, or compute for another node, until a signal ends it. Raises `ModelUnavailable` where the engine does not start."""
    os.environ[REPAIRS] = "1"
    os.environ["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    repair_server(cache)
    with start_errors(options.model, PostMortem()):
        ask_hub(options.model)
        arguments = server_arguments(options, settings)
        if options.is_cpu:
            reserve_memory(options, arguments)
            share_processors(arguments)
        program_of(arguments)(arguments)
