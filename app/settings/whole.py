"""All settings of a server, of a replica and of a client, with what must hold between them."""

import re
import shlex
from pathlib import Path
from typing import Any

from pydantic import (
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.settings.engine import DEFAULT_MODEL, EngineSettings, ModelSettings, PoolOptions, PoolSettings, RaySettings
from app.settings.server import (
    AddressSettings,
    ImageCountSettings,
    ImageSettings,
    LimitSettings,
    ResponseSettings,
    ServerSettings,
)
from app.settings.service import (
    AdapterSettings,
    AdapterSlotSettings,
    LogSettings,
    ObservabilitySettings,
    RoutingSettings,
    SharedSettings,
)
from app.settings.values import is_installed

ENV_PREFIX = "PONDER_"

OTHER_MODELS = ".pools"
"""Folder, in that of the first model's adapters or policies, with one folder for each further model. No adapter's name has a dot first."""


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
    def _check_folders(self) -> "Settings":
        for name in ("adapter_import_dir", "adapter_preload_dir"):
            folder: Path | None = getattr(self, name)
            if folder is not None and not folder.expanduser().is_dir():
                message = f"{name}: there is no folder {folder}"
                raise ValueError(message)
        for name in ("adapter_dir", "policy_dir", "live_calibration_dir", "cache_dir"):
            if (path := getattr(self, name).expanduser()).exists() and not path.is_dir():
                message = f"{name}: {path} is no folder"
                raise ValueError(message)
        if self.adapter_watch and self.adapter_preload_dir is None:
            message = "adapter_watch: there is no adapter_preload_dir to watch"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _check_tracing_is_installed(self) -> "Settings":
        if self.otlp_endpoint is not None and not is_installed("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"):
            message = "otlp_endpoint: OpenTelemetry is not installed: pip install 'ponder[trace]'"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _check_shared_state(self) -> "Settings":
        if self.shared_state_url is None:
            return self
        if not is_installed("redis.asyncio"):
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
        if self.ray and not is_installed("ray"):  # a name with a dot would import it, with its environment as it is now
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
