"""The file that `--config` names: options in YAML, in the form that vLLM's has."""

import json
from pathlib import Path
from typing import Any

import yaml


class BadOptions(ValueError):
    """The command line or the environment has a wrong value. The message is one line."""


class _Loader(yaml.SafeLoader):
    """Reads plain YAML. A few aliases of aliases would stand for more values than the memory holds."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Return the next node; raises `YAMLError` for an alias."""
        if self.check_event(yaml.AliasEvent):
            message = "an alias (*name) is not taken: write the value itself"
            raise yaml.YAMLError(message)
        return super().compose_node(parent, index)


def options_in(path: Path) -> dict[str, Any]:
    """Return the options of a YAML file in the form of vLLM's: names with dashes or underscores, and their values.

    Raises `BadOptions` for a file that cannot be read, or is no table of options.
    """
    try:
        values = yaml.load(path.expanduser().read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a safe loader
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: a date or a number that is none
        raise BadOptions(f"config: {path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise BadOptions(f"config: {path} is no table of options, such as `max-model-len: 4096`")
    options = {name.replace("-", "_"): value for name, value in values.items() if value is not None}
    if twice := next((name for name in values if "-" in name and name.replace("-", "_") in values), None):
        raise BadOptions(f"config: {path} has {twice} twice, with dashes and with underscores")
    return options


def words_of(name: str, value: Any) -> list[str]:
    """Return the words with which a command line sets one option of vLLM's engine. Raises `BadOptions` for what is no JSON."""
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    if isinstance(value, list):
        return [f"--{option}", *(_word(name, one) for one in value)]
    return [f"--{option}", _word(name, value)]


def _word(name: str, value: Any) -> str:
    try:
        return json.dumps(value) if isinstance(value, dict | list) else str(value)
    except TypeError as error:  # of a date, a set or bytes, which YAML has too
        raise BadOptions(f"config: {name}: {error}") from error
