"""The `ponder` command."""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

import typer
import uvicorn
import uvloop

from app import adapters_cli, ask_cli, train_cli
from app.engine import hardware, int8
from app.engine.conversions import ModelUnavailable
from app.engine.default_model import ensure_default_model
from app.logs import configure_logging
from app.settings import DEFAULT_MODEL, BadOptions, Settings, read_settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Think as hard as each question deserves.",
)
app.add_typer(adapters_cli.app, name="adapters")
app.add_typer(train_cli.app, name="train")
app.command()(ask_cli.ask)
app.command(**train_cli.PASSED_ON)(train_cli.prune)
logger = logging.getLogger("ponder")


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True}, add_help_option=False)
def serve(context: typer.Context) -> None:
    """Serve the OpenAI API. `ponder serve --help` lists every setting; each is a PONDER_… variable too."""
    try:
        settings = read_settings(context.args)
        configure_logging(settings.log_level, settings.log_format)
        status = _serve(settings)
    except (BadOptions, ModelUnavailable) as error:
        sys.exit(f"ponder: {error}")
    sys.exit(status)


def _serve(settings: Settings) -> int:
    """Run until told to stop; 1 when the engine died."""
    from app.main import create_app  # noqa: PLC0415 - vLLM reads the environment that `_engine` prepares

    engine = _engine(settings)
    died: list[str] = []

    def end(reason: str) -> None:
        died.append(reason)
        server.should_exit = True

    server_of: list[uvicorn.Server] = []
    asgi = create_app(settings, engine, on_engine_death=end, is_draining=lambda: bool(server_of) and server_of[0].should_exit)
    server = uvicorn.Server(
        uvicorn.Config(
            asgi,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=int(settings.drain_seconds),
            lifespan="on",
        )
    )
    server_of.append(server)
    for stop in (signal.SIGTERM, signal.SIGINT):
        # uvicorn drains on these and then raises them again, for whoever handled them before: nobody, or the exit would be a crash.
        signal.signal(stop, lambda _number, _frame: None)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve())
    return 1 if died or not server.started else 0


def _engine(settings: Settings) -> Any:
    """The engine, with the environment that vLLM reads on import prepared."""
    is_cpu = not hardware.has_nvidia_gpu()
    dtype: str = settings.dtype
    block_size = settings.block_size
    if is_cpu:
        plan = hardware.plan_cpu()
        environment = plan.environment()
        if settings.kv_cache_gib is not None:
            environment["VLLM_CPU_KVCACHE_SPACE"] = str(settings.kv_cache_gib)
        os.environ.update(environment)
        dtype = plan.dtype if dtype == "auto" else dtype
        block_size = block_size or 32
        logger.info(plan.describe())
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    model = settings.model
    if model == DEFAULT_MODEL:
        model = str(ensure_default_model(settings.cache_dir.expanduser(), logger.info))
    if Path(model).is_dir():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")

    quantization = settings.quantization
    if quantization == int8.NAME:
        if is_cpu:
            int8.check_processor(has_amx=hardware.has_amx(), dtype=dtype, adapter_slots=settings.adapter_slots)
        model = str(int8.ensure_int8(Path(model), settings.cache_dir.expanduser(), logger.info))
        quantization = None  # the folder says it itself

    logger.info("loading vLLM and %s", settings.name)
    from app.engine.vllm_engine import EngineOptions, VllmEngine  # noqa: PLC0415 - reads the environment on import

    return VllmEngine(
        EngineOptions(
            model=model,
            name=settings.name,
            dtype=dtype,
            max_model_len=settings.max_model_len,
            max_branches=settings.max_branches,
            block_size=block_size,
            gpu_memory_utilization=settings.gpu_memory_utilization,
            quantization=quantization,
            enforce_eager=is_cpu if settings.enforce_eager is None else settings.enforce_eager,
            tool_call_parser=settings.tool_call_parser,
            reasoning_parser=settings.reasoning_parser,
            max_tokens=settings.max_tokens,
            default_max_tokens=settings.default_max_tokens,
            adapter_slots=settings.adapter_slots,
            max_adapter_rank=settings.max_adapter_rank,
            is_cpu=is_cpu,
        )
    )


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
