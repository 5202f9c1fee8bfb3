"""Settings of base models: how they are loaded, and which engine or which replicas generate for them."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    model_validator,
)

from app.reward_models.options import header_value
from app.settings.values import CommandLine, Words, base_urls

DEFAULT_MODEL = "smollm2-135m"


def _default_cache() -> Path:
    return Path("~/.cache/ponder")


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


class FleetSettings(BaseModel):
    """Servers that generate the tokens in place of an engine in this process."""

    help_group: ClassVar[str] = "Replicas"

    replicas: Annotated[Words, AfterValidator(base_urls)] = Field(
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
