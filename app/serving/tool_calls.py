"""Writes tool calls as text, so that candidates with the same calls have the same answer."""

import json
from collections.abc import Mapping
from typing import Any


def calls_as_json(message: Mapping[str, Any]) -> str | None:
    """Return the names and parsed arguments of a message's tool calls as JSON, None where it has no calls.

    Ids are left out, since they differ between candidates that agree.
    """
    calls = message.get("tool_calls")
    if not calls:
        return None
    return json.dumps([[call["function"]["name"], _parsed(call["function"]["arguments"])] for call in calls], sort_keys=True)


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):  # the model may write text that is not JSON: then the text itself is compared
        return arguments
