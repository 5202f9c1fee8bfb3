"""The file that `--config` names: options in YAML, in the form that vLLM's has."""

import json
from pathlib import Path
from typing import Any

import yaml


class BadOptions(ValueError):
    """The command line or the environment has a wrong value. The message is one line."""


def options_in(path: Path) -> dict[str, Any]:
    """Return the options of a YAML file in the form of vLLM's: names with dashes or underscores, and their values.

    Raises `BadOptions` for a file that cannot be read, or is no table of options.
    """
    try:
        values = yaml.safe_load(path.expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadOptions(f"config: {path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise BadOptions(f"config: {path} is no table of options, such as `max-model-len: 4096`")
    return {name.replace("-", "_"): value for name, value in values.items() if value is not None}


def words_of(name: str, value: Any) -> list[str]:
    """Return the words with which a command line sets one option of vLLM's engine."""
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    if isinstance(value, list):
        return [f"--{option}", *map(str, value)]
    return [f"--{option}", json.dumps(value) if isinstance(value, dict) else str(value)]
