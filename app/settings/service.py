"""Settings of what a server keeps and tells: adapters, policies, what front ends share, logs and traces."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    HttpUrl,
)

from app.reward_models.options import RewardModelName, RewardModelOptions, plain_url
from app.settings.values import Words, object_store, store_url


def _default_policies() -> Path:
    return Path("~/.local/share/ponder/policies")


def _default_live_calibration() -> Path:
    return Path("~/.local/share/ponder/live")


def _default_adapters() -> Path:
    return Path("~/.local/share/ponder/adapters")


# `help_group` is the title of the class's options on the help page of `ponder serve`.


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
    adapter_store_url: Annotated[str | None, AfterValidator(object_store)] = Field(
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
    learning: bool = Field(
        True,
        description="correct the estimates of difficulty by feedback, by exact verifiers, and by what the answers show; what was "
        "learned is kept in `policy_dir`, without any text",
    )
    feedback_path: Path | None = Field(
        None,
        description="file that collects questions with confirmed answers for `ponder calibrate`; without it, feedback is only counted",
    )
    live_calibration_share: float = Field(
        0,
        ge=0,
        le=0.5,
        description="share of the questions that are asked eight times more while slots are free, to calibrate from live traffic; "
        "also the most FLOPs of that, as a share of those of answered requests; 0 for none",
    )
    live_calibration_dir: Path = Field(
        default_factory=_default_live_calibration,
        description="folder that keeps these questions with their answers for `ponder calibrate --live`; each front end needs its own",
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


class SharedSettings(BaseModel):
    """What several front ends share, and where they find each other."""

    help_group: ClassVar[str] = "Several front ends"

    shared_state_url: Annotated[str | None, AfterValidator(store_url)] = Field(
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
