"""Reads settings from a command line, the environment, a file, and secrets."""

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import (
    BaseModel,
    ValidationError,
)
from pydantic_settings import BaseSettings, SettingsError

from app.option_file import BadOptions, options_in, words_of
from app.settings.whole import ENV_PREFIX, ReplicaSettings, Settings

SECRETS = Path("/run/secrets")
"""Where containers find secrets: a file `ponder_api_keys` there stands for the variable, so that keys need not be in the environment."""

M = TypeVar("M", bound=BaseModel)
S = TypeVar("S", bound=BaseSettings)


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
