"""The only reader of the environment.

Each field of `Settings` is a variable `PONDER_…` and an option of `ponder serve`. A wrong value stops the start.
"""

import ipaddress
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from app.option_file import BadOptions, options_in, words_of
from app.reward_models.options import RewardModelName, RewardModelOptions, header_value, plain_url
from strategies.core.thinking import LONGEST_LANDING

DEFAULT_MODEL = "smollm2-135m"

ENV_PREFIX = "PONDER_"

OTHER_MODELS = ".pools"
"""Folder, in that of the first model's adapters or policies, with one folder for each further model. No adapter's name has a dot first."""

SECRETS = Path("/run/secrets")
"""Where containers find secrets: a file `ponder_api_keys` there stands for the variable, so that keys need not be in the environment."""

M = TypeVar("M", bound=BaseModel)
S = TypeVar("S", bound=BaseSettings)


def _split_at_commas(words: object) -> object:
    """Split one text, or each text of a list, at its commas. Other values are returned unchanged, for pydantic to refuse."""
    texts = [words] if isinstance(words, str) else words
    if not isinstance(texts, list):
        return words
    return tuple(word.strip() for text in texts for word in text.split(",") if word.strip())


def _split_as_a_shell(words: object) -> object:
    """Split one text, or each text of a list, as a shell does. Other values are returned unchanged, for pydantic to refuse."""
    texts = [words] if isinstance(words, str) else words
    return tuple(word for text in texts for word in shlex.split(text)) if isinstance(texts, list) else words


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_at_commas)]


def _host_names(hosts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names and addresses of hosts in lower case. Raises `ValueError` for one with a scheme, a port, a path or a wildcard."""
    for host in hosts:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", host) or re.fullmatch(r"[^:]+:\d+", host):
            message = f"{host!r} is no host: a name or an address alone, such as images.example.org"
            raise ValueError(message)
    return tuple(host.lower() for host in hosts)


CommandLine = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_as_a_shell)]


def _default_cache() -> Path:
    return Path("~/.cache/ponder")


def _default_policies() -> Path:
    return Path("~/.local/share/ponder/policies")


def _default_adapters() -> Path:
    return Path("~/.local/share/ponder/adapters")


# `help_group` is the title of the class's options on the help page of `ponder serve`.


class ModelSettings(BaseModel):
    """How the base model is loaded, and how its tool calls and its reasoning are parsed."""

    help_group: ClassVar[str] = "Model"

    config: Path | None = Field(
        None,
        description="YAML file with options of this command, ponder's and vLLM's; the command line and the environment win over it",
    )
    model: str = Field(DEFAULT_MODEL, description="model to serve: the embedded `smollm2-135m`, a local folder, or a hub id")
    model_name: str | None = Field(None, description="name of the model in the API; by default the last part of `model`")
    cache_dir: Path = Field(default_factory=_default_cache, description="folder for converted models")
    dtype: Literal["auto", "bfloat16", "float16", "half", "float32", "float"] = Field(
        "auto",
        description="number format of the weights; `auto` decides by the processor, and on a GPU by the model",
    )
    quantization: str | None = Field(
        None, description="`int8` converts the weights once; other values are vLLM's names of quantisation methods"
    )
    max_model_len: int | None = Field(None, ge=16, description="longest context in tokens; by default the model's own limit")
    chat_template: Path | None = Field(None, description="file with a Jinja chat template instead of the model's own")
    tool_call_parser: str | None = Field(
        None, description="vLLM's parser for tool calls; by default the one that fits the model"
    )
    tool_strict_level: Literal["auto", "function", "parameter"] = Field(
        "auto",
        description="what a grammar holds of the calls that a model chooses to make: `auto` the arguments of tools with `strict`, "
        "`function` the form of each call, `parameter` also the arguments of each call",
    )
    reasoning_parser: str | None = Field(
        None, description="vLLM's parser for thinking; by default the one that fits the model, `none` for none"
    )

    @property
    def name(self) -> str:
        """The name of the base model in the API."""
        return self.model_name or Path(self.model).name


class EngineSettings(BaseModel):
    """How much memory the engine may use, and how many sequences it may compute at the same time."""

    help_group: ClassVar[str] = "Engine"

    max_branches: int = Field(64, ge=1, le=4096, description="most sequences that the engine computes at the same time")
    block_size: int | None = Field(
        None, description="tokens in a block of the prefix cache; by default 32 on CPU, and vLLM's choice on a GPU"
    )
    kv_cache_gib: int | None = Field(
        None, ge=1, description="memory for the KV cache on CPU, in GiB; by default a share of the free memory"
    )
    gpu_memory_utilization: float | None = Field(
        None, gt=0, le=1, description="share of the GPU's memory that the engine may use"
    )
    enforce_eager: bool | None = Field(
        None, description="run without compiling the model; by default so on CPU, where compiling takes a minute"
    )
    engine_args: CommandLine = Field(
        (),
        description="further options of vLLM's engine in one text, such as `--tensor-parallel-size 2`; `ponder serve` also takes each of "
        "them as an option of its own",
    )


def _base_urls(urls: tuple[str, ...]) -> tuple[str, ...]:
    """Return URLs without a slash at their end. Raises `ValueError` for one that is more than a scheme, a host and a port."""
    for url in urls:
        parts = urlsplit(url)
        has_more = parts.path.strip("/") or parts.query or parts.fragment or parts.username or parts.password or parts.port == 0
        if parts.scheme not in {"http", "https"} or not parts.hostname or has_more:
            message = (
                f"{parts._replace(netloc=parts.hostname or '').geturl()!r} is no URL of a server, such as http://10.0.0.7:8000"
            )
            raise ValueError(message)
    return tuple(url.rstrip("/") for url in urls)


class FleetSettings(BaseModel):
    """Servers that generate the tokens in place of an engine in this process."""

    help_group: ClassVar[str] = "Replicas"

    replicas: Annotated[Words, AfterValidator(_base_urls)] = Field(
        (),
        description="URLs of vLLM servers of the same model, separated by commas; a name that has several addresses is as many replicas; "
        "`--replica` may be repeated; without any, the engine runs in this process",
        json_schema_extra={"other_option": "replica"},
    )
    replica_api_key: Annotated[SecretStr, AfterValidator(header_value)] | None = Field(
        None, description="key that is sent to the replicas"
    )
    adapter_replicas: int | None = Field(
        None, ge=1, description="replicas on which an adapter is loaded; by default all of them"
    )


class RaySettings(BaseModel):
    """Replicas that Ray Serve runs."""

    help_group: ClassVar[str] = "Ray"

    ray: bool = Field(
        False,
        description="generate on replicas that Ray Serve runs, on the cluster that `RAY_ADDRESS` names, or on a Ray that is started here; "
        "needs the extra `ray`",
    )
    ray_replicas: int = Field(1, ge=1, le=1000, description="replicas that there are always")
    ray_max_replicas: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="most replicas, of which there are as many as the branches need; by default `ray_replicas`",
    )
    ray_target_branches: int | None = Field(
        None, ge=1, description="branches of a replica above which another one is started; by default half of `max_branches`"
    )
    ray_idle_seconds: float = Field(
        300, ge=0, description="seconds in which fewer replicas would do, before one of them is stopped"
    )
    ray_cpus: int | None = Field(
        None,
        ge=1,
        description="processors of a replica; by default an equal share of those of this machine, and one where replicas have GPUs",
    )
    ray_gpus: int | None = Field(
        None,
        ge=0,
        description="GPUs of a replica, all of one machine; by default as many as vLLM's parallelism takes, where the cluster has any",
    )


class PoolOptions(FleetSettings, EngineSettings, ModelSettings):
    """A further base model: what is said of it alone. All else is as for the first model."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    model: str = Field(min_length=1, description="a local folder, or a hub id")
    max_images: int = Field(16, ge=0, le=256, description="most images of one request; 0 refuses images")
    adapter_slots: int = Field(8, ge=0, le=128, description="adapter versions that the engine holds at the same time")
    max_adapter_rank: int = Field(16, ge=1, le=256, description="highest rank of an adapter")
    adapter_preload_dir: Path | None = Field(None, description="folder with one folder for each adapter")

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        if self.config is not None or self.model_name is not None:
            message = "config and model_name belong to the first model: this one's name is that of the pool"
            raise ValueError(message)
        if self.adapter_preload_dir is not None and not self.adapter_preload_dir.expanduser().is_dir():
            message = f"adapter_preload_dir: there is no folder {self.adapter_preload_dir}"
            raise ValueError(message)
        return self


PoolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$")]
"""The name of a further model, also of the folders that keep its adapters and its policies."""


class PoolSettings(FleetSettings):
    """Further base models."""

    help_group: ClassVar[str] = "Replicas"

    pools: dict[PoolName, PoolOptions] = Field(
        default_factory=dict,
        description="further base models: a JSON object from name to options, `model`, `replicas` and others of the model, the engine, the "
        "replicas and the adapters; only one model may run in this process, and the others have replicas",
    )


class AddressSettings(BaseModel):
    """Where a server listens, the keys of its callers, and how it ends."""

    help_group: ClassVar[str] = "Server"

    host: str = Field("127.0.0.1", description="address to listen on; an address that others can reach needs API keys")
    port: int = Field(8000, ge=0, le=65_535, description="port to listen on; 0 takes a free one")
    api_keys: Words = Field(
        (), description="keys for inference, separated by commas; without keys, only a loopback address is served"
    )
    drain_seconds: float = Field(30, ge=0, description="seconds that running requests may take to end after SIGTERM")

    @model_validator(mode="after")
    def _check_keys_for_open_host(self) -> Self:
        if not self.api_keys and not _is_loopback(self.host):
            message = f"host {self.host} is reachable by others: set PONDER_API_KEYS, or listen on 127.0.0.1"
            raise ValueError(message)
        return self


class ServerSettings(AddressSettings):
    """Who else may call the server, and how."""

    help_group: ClassVar[str] = "Server"

    admin_keys: Words = Field(
        (),
        description="keys for `/metrics` and administration, separated by commas; without keys, both are open to every caller",
    )
    cors_origins: Words = Field(
        (),
        description="origins whose web pages may call this server, such as `https://chat.example`, separated by commas; `*` for all, "
        "which needs API keys",
    )
    root_path: str = Field(
        "", pattern=r"^(/[A-Za-z0-9_.~-]+)*$", description="path under which a proxy serves this server, such as `/ponder`"
    )
    playground: bool = Field(True, description="serve the web page at `/playground`")
    strict_fields: bool = Field(False, description="refuse a field that this server does not know, instead of ignoring it")
    keep_alive_seconds: float = Field(5, gt=0, description="seconds of silence in a stream after which a comment is sent")


class LimitSettings(BaseModel):
    """The limits of a request, of an API key and of the whole server."""

    help_group: ClassVar[str] = "Limits"

    max_body_bytes: int = Field(4_194_304, ge=1024, description="largest request body, in bytes")
    max_prompt_chars: int = Field(1_000_000, ge=1, description="longest prompt in characters, before it is tokenised")
    max_n: int = Field(64, ge=1, le=1024, description="most branches that one prompt of a request may run at the same time")
    max_tokens: int = Field(8192, ge=1, description="most tokens that one answer may generate")
    default_max_tokens: int = Field(2048, ge=1, description="most tokens of one answer when the request names no limit")
    max_request_tokens: int = Field(
        131_072, ge=1, description="most tokens that all candidates of one request may generate together"
    )
    max_request_flops: int | None = Field(None, ge=1, description="most FLOPs that one request may spend")
    max_request_seconds: float = Field(600, gt=0, description="most seconds that one request may take")
    max_thinking_tokens: int | None = Field(
        None, ge=0, description="most tokens that one answer may think before its thinking is ended"
    )
    thinking_landing: str = Field(
        "Considering the limited time by the user, I have to give the solution based on the thinking directly now.",
        max_length=LONGEST_LANDING,
        description="sentence that is written into the thinking near the end of its budget, so that the model ends it; empty for none",
    )
    max_waiting_branches: int = Field(
        256,
        ge=1,
        description="branches that may wait besides those that run; a request that would exceed this is refused with 503",
    )
    max_branches_per_key: int = Field(
        256,
        ge=1,
        description="branches of one API key that may run or wait; a request that would exceed this is refused with 429",
    )
    priorities: bool = Field(
        True, description="let requests with few branches overtake requests with many, and keep slots free for them"
    )


class ImageCountSettings(BaseModel):
    """How many images the model must have room for."""

    help_group: ClassVar[str] = "Images"

    max_images: int = Field(16, ge=0, le=256, description="most images of one request; 0 refuses images")


class ImageSettings(ImageCountSettings):
    """The images that a request may hold, for models that read images."""

    help_group: ClassVar[str] = "Images"

    max_image_bytes: int = Field(
        10_485_760, ge=1024, description="largest files of all images of one request together, in bytes"
    )
    max_image_pixels: int = Field(50_000_000, ge=1024, description="most pixels of all images of one request together")
    allowed_media_domains: Annotated[Words, AfterValidator(_host_names)] = Field(
        (),
        description="hosts from which URLs of images are read, separated by commas; without it, images are taken as data URLs only; "
        "a host with a private address needs the address in the list too",
    )
    image_fetch_seconds: float = Field(10, gt=0, description="seconds that reading an image from its host may take")


class ResponseSettings(BaseModel):
    """Where responses of the Responses API are kept, and how many."""

    help_group: ClassVar[str] = "Responses"

    responses_path: Path | None = Field(
        None, description="SQLite file that keeps responses over a restart; without it, they are kept in memory"
    )
    max_responses: int = Field(10_000, ge=1, description="most responses of all keys that are kept; the oldest are dropped")
    max_response_bytes: int = Field(268_435_456, ge=1024, description="most bytes of all kept responses with their input")
    max_response_days: float = Field(30, gt=0, description="days after which a response is dropped")
    max_background_per_key: int = Field(
        64, ge=1, description="responses of one API key that may run or wait in the background; one more is refused with 429"
    )


def _object_store(url: str | None) -> str | None:
    """Return the URL of a folder. Raises `ValueError` where fsspec does not know its scheme, or lacks the package for it."""
    if url is None:
        return None
    parts = urlsplit(url)
    if not re.fullmatch(r"[a-z][a-z0-9+]*", parts.scheme) or parts.username or parts.password or parts.query or parts.fragment:
        message = "a URL of a folder, such as s3://bucket/adapters, without a user, a password or a query"
        raise ValueError(message)
    from fsspec import get_filesystem_class  # noqa: PLC0415 - takes a while

    try:
        get_filesystem_class(parts.scheme)
    except (ImportError, ValueError) as error:
        message = f"fsspec cannot open {parts.scheme}:// here: {error}"
        raise ValueError(message) from error
    return url.rstrip("/")


class AdapterSlotSettings(BaseModel):
    """The memory that the engine sets apart for adapters."""

    help_group: ClassVar[str] = "Adapters"

    adapter_slots: int = Field(
        8,
        ge=0,
        le=128,
        description="LoRA adapter versions that the engine holds at the same time; 0 for models that vLLM cannot serve with LoRA",
    )
    max_adapter_rank: int = Field(16, ge=1, le=256, description="highest rank of an adapter; every slot reserves memory for it")
    adapter_store_url: Annotated[str | None, AfterValidator(_object_store)] = Field(
        None,
        description="folder to which adapters are written and from which replicas and other front ends read them, such as "
        "`s3://bucket/adapters`: any URL that fsspec knows; replicas need the same one; without it, they read the paths of `adapter_dir`",
    )


class AdapterSettings(AdapterSlotSettings):
    """Where adapters come from, and how much disk and time they may take."""

    help_group: ClassVar[str] = "Adapters"

    max_adapter_bytes: int = Field(268_435_456, ge=1024, description="largest weights file of an adapter, in bytes")
    adapter_dir: Path = Field(
        default_factory=_default_adapters,
        description="folder that keeps the adapters; a restarted server serves the same adapters again",
    )
    shipped_adapters: bool = Field(True, description="serve the adapters that come with the embedded model")
    adapter_import_dir: Path | None = Field(
        None, description="folder from which adapters may be imported by path; without it, import by path is refused"
    )
    adapter_preload_dir: Path | None = Field(
        None, description="folder with one folder for each adapter; all are loaded at the start"
    )
    adapter_watch: bool = Field(False, description="watch `adapter_preload_dir` and load adapters that change there")
    adapter_wait_seconds: float = Field(
        30, gt=0, description="seconds that a request waits for an adapter slot before it is refused with 503"
    )


class RoutingSettings(BaseModel):
    """The policies, strategies and verifiers from which a request gets its plan."""

    help_group: ClassVar[str] = "Policies, strategies and verifiers"

    policy_dir: Path = Field(default_factory=_default_policies, description="folder that keeps uploaded policies")
    feedback_path: Path | None = Field(
        None,
        description="file that collects questions with confirmed answers for `ponder calibrate`; without it, feedback is only counted",
    )
    reward_models: dict[RewardModelName, RewardModelOptions] = Field(
        default_factory=dict,
        description="reward models behind HTTP: a JSON object from name to options; the documentation lists the options",
    )
    plugins: Words = Field(
        (),
        description="strategies and verifiers of others, each as `module:Class`, separated by commas; `--plugin` may be repeated",
        json_schema_extra={"other_option": "plugin"},
    )


def _store_url(url: str | None) -> str | None:
    """Return the URL of a store. The message does not contain it, since it may have a password."""
    if url is not None and not re.fullmatch(r"(rediss?://[^\s/]+|unix://(\S*@)?/)\S*", url):
        message = "a URL that begins with redis://, rediss:// or unix://, and names the host or the socket"
        raise ValueError(message)
    return url


class SharedSettings(BaseModel):
    """What several front ends share, and where they find each other."""

    help_group: ClassVar[str] = "Several front ends"

    shared_state_url: Annotated[str | None, AfterValidator(_store_url)] = Field(
        None,
        repr=False,
        description="Valkey or Redis, through which several front ends share adapters, policies, quotas, responses and traces, such as "
        "`redis://:password@valkey:6379/0`; needs the extra `shared`",
    )
    shared_state_prefix: str = Field(
        "ponder",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="first part of all keys in the shared state; front ends with the same one share",
    )
    advertise_url: Annotated[HttpUrl, AfterValidator(plain_url)] | None = Field(
        None, description="URL at which the other front ends reach this one; by default that of `host` and `port`"
    )


class LogSettings(BaseModel):
    """What is logged."""

    help_group: ClassVar[str] = "Logs and traces"

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level that is logged")
    log_format: Literal["text", "json"] = Field("text", description="format of the log lines; no line contains a prompt")


class ObservabilitySettings(LogSettings):
    """What is traced."""

    help_group: ClassVar[str] = "Logs and traces"

    max_traces: int = Field(256, ge=0, description="search traces that are kept in memory for `/v1/traces/{id}`")
    max_trace_chars: int = Field(33_554_432, ge=0, description="most characters of all kept search traces together")
    otlp_endpoint: Annotated[HttpUrl, AfterValidator(plain_url)] | None = Field(
        None,
        description="base URL of a collector of OpenTelemetry spans (OTLP over HTTP, often port 4318); needs the extra `trace`",
    )
    trace_sample_ratio: float = Field(
        0.001,
        ge=0,
        le=1,
        description="share of the requests whose spans are recorded, where the caller does not say whether to record",
    )


# pydantic collects the fields of base classes from the last to the first: help and documents begin with the model.
class Settings(
    ObservabilitySettings,
    SharedSettings,
    RoutingSettings,
    AdapterSettings,
    ResponseSettings,
    ImageSettings,
    LimitSettings,
    ServerSettings,
    RaySettings,
    PoolSettings,
    EngineSettings,
    ModelSettings,
    BaseSettings,
):
    """How a server is run. Raises `ValidationError` for wrong values."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENV_PREFIX,
        hide_input_in_errors=True,  # the input may contain keys
        env_ignore_empty=True,
    )

    @model_validator(mode="after")
    def _check_origins(self) -> "Settings":
        for origin in self.cors_origins:
            if origin != "*" and not re.fullmatch(r"https?://[a-z0-9.-]+(:\d+)?|https?://\[[0-9a-f:]+\](:\d+)?", origin):
                message = (
                    f"cors_origins: {origin!r} is no origin: a scheme and a host in lower case, such as https://chat.example"
                )
                raise ValueError(message)
        if "*" in self.cors_origins and not self.api_keys:
            message = "cors_origins: without API keys, * would let every web page use this server: set PONDER_API_KEYS"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _check_adapter_folders(self) -> "Settings":
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
    def _check_tracing_is_installed(self) -> "Settings":
        if self.otlp_endpoint is not None and not _is_installed("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"):
            message = "otlp_endpoint: OpenTelemetry is not installed: pip install 'ponder[trace]'"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _check_shared_state(self) -> "Settings":
        if self.shared_state_url is None:
            return self
        if not _is_installed("redis.asyncio"):
            message = "shared_state_url: the client of Valkey and Redis is not installed: pip install 'ponder[shared]'"
            raise ValueError(message)
        if self.advertise_url is None and self.host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
            message = f"advertise_url: the other front ends cannot call {self.host}: name a URL at which they reach this one"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _check_pools(self) -> "Settings":
        if self.name in self.pools:
            message = f"pools: {self.name} is the name of the first model"
            raise ValueError(message)
        inside = [
            name for name, one in {self.name: self, **self.pools}.items() if not one.replicas and not getattr(one, "ray", False)
        ]
        if len(inside) > 1:
            message = f"pools: only one model may run in this process: name the replicas of {' and '.join(inside[1:])}"
            raise ValueError(message)
        return self

    def of_pools(self) -> "tuple[Settings, ...]":
        """Return the settings of each base model, these first. A pool keeps its adapters and policies in folders of its own."""
        return (self, *(self._of_pool(name, one) for name, one in self.pools.items()))

    def _of_pool(self, name: str, options: PoolOptions) -> "Settings":
        own = {field: getattr(options, field) for field in type(options).model_fields}
        return self.model_copy(
            update={
                **own,
                "model_name": name,
                "pools": {},
                "ray": False,
                "adapter_dir": self.adapter_dir / OTHER_MODELS / name,
                "policy_dir": self.policy_dir / OTHER_MODELS / name,
                "adapter_watch": self.adapter_watch and options.adapter_preload_dir is not None,
                "shipped_adapters": self.shipped_adapters and options.model == DEFAULT_MODEL != self.model,
                "shared_state_prefix": f"{self.shared_state_prefix}.{name}",
            }
        )

    @model_validator(mode="after")
    def _check_ray(self) -> "Settings":
        if self.ray and self.replicas:
            message = "ray: the replicas are either those of Ray or those at URLs"
            raise ValueError(message)
        if self.ray and not _is_installed("ray"):  # a name with a dot would import it, with its environment as it is now
            message = "ray: Ray is not installed: pip install 'ponder[ray]'"
            raise ValueError(message)
        return self

    @property
    def of_replica(self) -> dict[str, Any]:
        """The settings of an engine elsewhere, as `ReplicaSettings` takes them: values of JSON, without keys."""
        names = ReplicaSettings.model_fields.keys() - AddressSettings.model_fields.keys() - {"config"}
        given = self.model_dump(mode="json", include=set(names))
        return {**given, "engine_args": shlex.join(self.engine_args), "host": "127.0.0.1"}

    @property
    def own_url(self) -> str:
        """The URL at which other front ends reach this one, without a slash at its end."""
        if self.advertise_url is not None:
            return str(self.advertise_url).rstrip("/")
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


class ReplicaSettings(
    LogSettings, AdapterSlotSettings, ImageCountSettings, AddressSettings, EngineSettings, ModelSettings, BaseSettings
):
    """How a replica is run. Raises `ValidationError` for wrong values."""

    model_config = Settings.model_config


class ClientSettings(BaseSettings):
    """The URL and the keys with which commands call a running server. An option of the command replaces each of them."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, env_ignore_empty=True)

    url: str = "http://127.0.0.1:8000"
    api_key: str | None = None
    admin_key: str | None = None


def read_settings(options: Mapping[str, Any]) -> Settings:
    """Return the settings of a server; see `_read`."""
    return _read(Settings, options)


def read_replica_settings(options: Mapping[str, Any]) -> ReplicaSettings:
    """Return the settings of a replica; see `_read`. In a file, options that only a server has are without effect."""
    return _read(ReplicaSettings, options)


def _read(kind: type[S], options: Mapping[str, Any]) -> S:
    """Return settings.

    The value of a field comes from the command line, else from the environment, else from the file that `config` names, else from a file
    in `SECRETS`. The file's options of vLLM's engine stand before those of the command line or the environment, which win over them.
    Empty options and empty variables count as absent. Raises `BadOptions`.
    """
    with _one_line_errors():
        given = {name: value for name, value in options.items() if value != ""}
        if path := given.get("config") or os.environ.get(f"{ENV_PREFIX}CONFIG"):
            given = _with_file(given, options_in(Path(path)))
            given = {name: value for name, value in given.items() if name in kind.model_fields}
        return kind(**given, _secrets_dir=SECRETS if os.access(SECRETS, os.R_OK | os.X_OK) else None)


def _with_file(given: Mapping[str, Any], file: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the command line with those of a file that neither it nor the environment sets."""
    own = {
        name: value
        for name, value in file.items()
        if name in Settings.model_fields and not os.environ.get(f"{ENV_PREFIX}{name.upper()}")
    }
    words = [word for name, value in file.items() if name not in Settings.model_fields for word in words_of(name, value)]
    after = given.get("engine_args") or os.environ.get(f"{ENV_PREFIX}ENGINE_ARGS") or own.get("engine_args", "")
    engine = {"engine_args": [shlex.join(words), *([after] if isinstance(after, str) else after)]} if words else {}
    return {**own, **given, **engine}


def read_options(model: type[M], options: Mapping[str, Any]) -> M:
    """Return an instance of `model`, made of the options of a command line alone. Raises `BadOptions`."""
    with _one_line_errors():
        return model.model_validate(options)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Replace pydantic's errors, which have several lines, by a `BadOptions` with one line."""
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


def _is_installed(*modules: str) -> bool:
    try:
        return all(find_spec(module) for module in modules)
    except ModuleNotFoundError:  # a package that contains the module is missing
        return False


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
