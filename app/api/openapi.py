"""The OpenAPI document of this server."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi


def document(app: FastAPI, strategies: Sequence[str], *, has_keys: bool) -> dict[str, Any]:
    """Return the OpenAPI document. It is made on the first call and then kept with the app.

    FastAPI documents a 422 for every body, but this server answers a wrong body with a 400 in OpenAI's shape. A server without keys
    documents no authentication. `strategies` are the names that requests may choose.
    """
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
                if not has_keys:
                    operation.pop("security", None)
        options = schema["components"]["schemas"]["PonderOptions"]["properties"]["strategy"]
        options["anyOf"][0] = {"type": "string", "enum": list(strategies)}
        for unused in ("HTTPValidationError", "ValidationError"):
            schema["components"]["schemas"].pop(unused, None)
        app.openapi_schema = schema
    return app.openapi_schema


def json_or_stream(description: str) -> dict[int | str, dict[str, Any]]:
    """Return what the document says of a route that answers with JSON or with a stream."""
    return {200: {"description": description, "content": {"application/json": {}, "text/event-stream": {}}}}
