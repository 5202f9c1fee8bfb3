"""The only reader of the environment. Each field is a `PONDER_…` variable and an option of `ponder serve`; a bad one stops the start."""

import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, Field, HttpUrl, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from app.reward_models.options import RewardModelName, RewardModelOptions, plain_url

DEFAULT_MODEL = "smollm2-135m"

SECRETS = Path("/run/secrets")
"""Where containers find secrets: a file `ponder_api_keys` there stands for the variable, so that keys need not be in the environment."""

M = TypeVar("M", bound=BaseModel)

_COMMAND_LINE = SettingsConfigDict(
    frozen=True, extra="forbid", cli_kebab_case=True, cli_implicit_flags=True, cli_hide_none_type=True, cli_avoid_json=True
)
"""How options are written and checked, for every command that has a model of them."""


def _default_cache() -> Path:
    return Path("~/.cache/ponder")


def _default_policies() -> Path:
    return Path("~/.local/share/ponder/policies")


def _default_adapters() -> Path:
    return Path("~/.local/share/ponder/adapters")


class Settings(BaseSettings):
    """How a server is run."""

    model_config = SettingsConfigDict(
        **_COMMAND_LINE,
        env_prefix="PONDER_",
        hide_input_in_errors=True,  # there are keys in it
        env_ignore_empty=True,
        cli_prog_name="ponder serve",
        cli_shortcuts={"plugins": "plugin"},
    )

    model: str = Field(DEFAULT_MODEL, description="what to serve: the embedded `smollm2-135m`, a local folder, or a hub id")
    model_name: str | None = Field(None, description="the name clients use; by default the last part of `model`")
    host: str = Field("127.0.0.1", description="address to listen on; other than loopback only with API keys")
    port: int = Field(8000, ge=0, le=65_535, description="port to listen on")
    api_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="keys for inference, separated by commas; without any, only a loopback address is served"
    )
    admin_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="keys for `/metrics` and administration, separated by commas; without any, whoever reaches it sees it",
    )
    cache_dir: Path = Field(default_factory=_default_cache, description="where converted models are kept")

    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto",
        description="number format of the weights; `auto` looks at the processor, or leaves it to the model on a GPU",
    )
    max_model_len: int | None = Field(None, ge=16, description="longest context in tokens; by default the model's own")
    max_branches: int = Field(64, ge=1, le=4096, description="sequences that the engine runs at the same time")
    block_size: int | None = Field(None, description="tokens in a block of the prefix cache; 32 on CPU, vLLM's own on a GPU")
    kv_cache_gib: int | None = Field(None, ge=1, description="memory for the KV cache on CPU; by default from what is free")
    gpu_memory_utilization: float | None = Field(None, gt=0, le=1, description="share of the GPU's memory to use")
    quantization: str | None = Field(None, description="`int8` converts the weights once, or vLLM's name of a quantisation")
    enforce_eager: bool | None = Field(None, description="do not compile; by default so on CPU, where compiling takes a minute")
    tool_call_parser: str | None = Field("hermes", description="vLLM's parser for tool calls")
    reasoning_parser: str | None = Field(None, description="vLLM's parser for reasoning markup, for models that have it")

    max_body_bytes: int = Field(4_194_304, ge=1024, description="largest request body")
    max_prompt_chars: int = Field(1_000_000, ge=1, description="characters of a prompt, before it is tokenised")
    max_n: int = Field(64, ge=1, le=1024, description="candidates that one request may draw")
    max_tokens: int = Field(8192, ge=1, description="tokens that one answer may generate")
    default_max_tokens: int = Field(2048, ge=1, description="the same when the request does not say")
    max_request_tokens: int = Field(
        131_072, ge=1, description="tokens that all candidates of one request may generate together"
    )
    max_request_flops: int | None = Field(None, ge=1, description="FLOPs that one request may spend")
    max_request_seconds: float = Field(600, gt=0, description="seconds that one request may take")
    max_waiting_branches: int = Field(
        256, ge=1, description="branches admitted beyond those that run; more are refused with 503"
    )
    max_branches_per_key: int = Field(256, ge=1, description="branches in work for one API key; more are refused with 429")
    max_traces: int = Field(256, ge=0, description="traces of requests that are kept in memory for `/v1/traces/{id}`")
    max_trace_chars: int = Field(33_554_432, ge=0, description="characters that all kept traces may have together")
    playground: bool = Field(True, description="serve the web page at `/playground`")
    priorities: bool = Field(True, description="let narrow requests overtake wide ones, and keep slots for them")

    adapter_slots: int = Field(
        8,
        ge=0,
        le=128,
        description="LoRA adapter versions that the engine holds at the same time; 0 for none, as models need that vLLM has no LoRA for",
    )
    max_adapter_rank: int = Field(16, ge=1, le=256, description="highest rank of an adapter; every slot takes memory for it")
    max_adapter_bytes: int = Field(268_435_456, ge=1024, description="largest weights file of an adapter")
    adapter_dir: Path = Field(
        default_factory=_default_adapters,
        description="where adapters are kept; what was served before is served after a restart",
    )
    shipped_adapters: bool = Field(True, description="serve the adapters that come with the embedded model")
    adapter_import_dir: Path | None = Field(
        None, description="folder beneath which adapters may be imported by path; without one, none may"
    )
    adapter_preload_dir: Path | None = Field(
        None, description="folder of adapters, one folder each, that are taken in at the start"
    )
    adapter_watch: bool = Field(False, description="watch `adapter_preload_dir` and swap in what changes there")
    adapter_wait_seconds: float = Field(
        30, gt=0, description="how long a request waits for an adapter slot before it is refused with 503"
    )

    policy_dir: Path = Field(
        default_factory=_default_policies, description="where policies are kept that were given to the server"
    )

    feedback_path: Path | None = Field(
        None,
        description="file for `ponder calibrate` to which questions are added whose answers callers confirm; without one they are counted",
    )

    reward_models: dict[RewardModelName, RewardModelOptions] = Field(
        default_factory=dict,
        description="reward models behind HTTP, a JSON object by name: url, route, and what else the README lists",
    )

    plugins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="strategies and verifiers of others, each as `module:Class`, separated by commas; `--plugin` may be repeated",
    )

    otlp_endpoint: Annotated[HttpUrl, AfterValidator(plain_url)] | None = Field(
        None,
        description="base URL of a collector of OpenTelemetry traces (OTLP over HTTP, often port 4318); needs the extra `trace`",
    )
    trace_sample_ratio: float = Field(
        0.001,
        ge=0,
        le=1,
        description="share of the requests that are traced whose callers do not say whether they trace theirs",
    )

    drain_seconds: float = Field(30, ge=0, description="how long running requests may take to end after SIGTERM")
    keep_alive_seconds: float = Field(5, gt=0, description="silence in a stream after which a comment is sent")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level that is logged")
    log_format: Literal["text", "json"] = Field("text", description="form of the log lines; never contains prompts")

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: object) -> object:
        if isinstance(values, dict):
            for name in ("api_keys", "admin_keys", "plugins"):
                if isinstance(text := values.get(name), str):
                    values[name] = tuple(key.strip() for key in text.split(",") if key.strip())
        return values

    @model_validator(mode="after")
    def _open_only_with_keys(self) -> "Settings":
        if not self.api_keys and not _is_loopback(self.host):
            message = f"host {self.host} is reachable by others: set PONDER_API_KEYS, or listen on 127.0.0.1"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _adapter_folders_are_there(self) -> "Settings":
        for name in ("adapter_import_dir", "adapter_preload_dir"):
            folder: Path | None = getattr(self, name)
            if folder is not None and not folder.expanduser().is_dir():
                message = f"{name}: there is no folder {folder}"
                raise ValueError(message)
        if self.adapter_watch and self.adapter_preload_dir is None:
            message = "adapter_watch: there is no adapter_preload_dir to watch"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _tracing_is_installed(self) -> "Settings":
        if self.otlp_endpoint is not None and not _is_installed("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"):
            message = "otlp_endpoint: OpenTelemetry is not installed: pip install 'ponder[trace]'"
            raise ValueError(message)
        return self

    @property
    def name(self) -> str:
        """The name of the base model in the API."""
        return self.model_name or Path(self.model).name


class BadOptions(ValueError):
    """What the command line or the environment says is wrong; the message is one line for whoever wrote it."""


def read_settings(arguments: list[str]) -> Settings:
    """From the command line, the environment and the files in `SECRETS`, in this order; raises `BadOptions`."""
    with _told_plainly():
        return Settings(_cli_parse_args=arguments, _secrets_dir=SECRETS if os.access(SECRETS, os.R_OK | os.X_OK) else None)


def parse_options(model: type[M], prog: str, arguments: list[str]) -> M:
    """The options of a command, as `model` describes them, from the command line alone; raises `BadOptions`."""

    class Options(model, BaseSettings):  # type: ignore[misc, valid-type]
        model_config = SettingsConfigDict(**_COMMAND_LINE, cli_prog_name=prog)

        @classmethod
        def settings_customise_sources(cls, *_: Any, init_settings: Any, **__: Any) -> tuple[Any, ...]:  # type: ignore[override]
            return (init_settings,)  # and the command line, which pydantic-settings adds

    Options.__doc__ = model.__doc__
    with _told_plainly():
        return Options(_cli_parse_args=arguments)


@contextmanager
def _told_plainly() -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        faults = (
            f"{'.'.join(str(part) for part in fault['loc']) or 'settings'}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        )
        raise BadOptions("; ".join(faults)) from error
    except SettingsError as error:
        raise BadOptions(str(error)) from error


class ClientSettings(BaseSettings):
    """How the commands that speak to a running server find it: options of theirs, or these variables."""

    model_config = SettingsConfigDict(env_prefix="PONDER_", frozen=True, env_ignore_empty=True)

    url: str = "http://127.0.0.1:8000"
    api_key: str | None = None
    admin_key: str | None = None


def _is_installed(*modules: str) -> bool:
    try:
        return all(find_spec(module) for module in modules)
    except ModuleNotFoundError:  # a package around it is missing
        return False


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
