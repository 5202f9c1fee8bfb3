"""Tool calls as text that candidates can agree on."""

import json
from collections.abc import Mapping
from typing import Any


def calls_as_json(message: Mapping[str, Any]) -> str | None:
    """Of a message of the assistant, None where it has none: names and parsed arguments, without ids."""
    calls = message.get("tool_calls")
    if not calls:
        return None
    return json.dumps([[call["function"]["name"], _parsed(call["function"]["arguments"])] for call in calls], sort_keys=True)


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
