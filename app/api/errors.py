"""Maps errors to HTTP responses in OpenAI's error shape."""

import logging
import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from adapters import errors as adapters
from app import errors
from app.faults import describe, kind_of

logger = logging.getLogger("ponder.api")

STATUS: dict[type[Exception], tuple[int, str, str | None]] = {
    errors.InvalidRequest: (400, "invalid_request_error", None),
    errors.UnknownPrevious: (400, "invalid_request_error", "previous_response_not_found"),
    errors.UnknownResponse: (404, "invalid_request_error", "response_not_found"),
    errors.TooLarge: (413, "invalid_request_error", "request_too_large"),
    errors.UnsupportedMedia: (415, "invalid_request_error", "unsupported_media_type"),
    errors.Unauthorized: (401, "authentication_error", "invalid_api_key"),
    errors.NotFound: (404, "invalid_request_error", "model_not_found"),
    errors.UnknownTrace: (404, "invalid_request_error", "trace_not_found"),
    errors.QuotaExceeded: (429, "rate_limit_error", "rate_limit_exceeded"),
    errors.Overloaded: (503, "server_error", "overloaded"),
    errors.SharedStateLost: (503, "server_error", "shared_state_lost"),
    errors.Conflict: (409, "invalid_request_error", "conflict"),
    errors.NoReplica: (503, "server_error", "no_replica"),
    errors.Forbidden: (403, "permission_error", "forbidden"),
    errors.EngineFailed: (500, "server_error", "engine_failed"),
    errors.EngineDead: (503, "server_error", "engine_dead"),
    # nginx's status for a client that has left; so no client receives it
    errors.Disconnected: (499, "client_error", "disconnected"),
    adapters.AdapterError: (400, "invalid_request_error", None),
    adapters.AdapterRefused: (400, "invalid_request_error", "adapter_refused"),
    adapters.AdapterFailed: (400, "invalid_request_error", "adapter_failed"),
    adapters.UnknownAdapter: (404, "invalid_request_error", "model_not_found"),
    adapters.AdapterConflict: (409, "invalid_request_error", "conflict"),
    adapters.AdapterLost: (410, "invalid_request_error", "adapter_lost"),
    adapters.NoAgreement: (503, "server_error", "shared_state_lost"),
    adapters.NoSlot: (503, "server_error", "no_adapter_slot"),
}
"""From error class to (HTTP status, OpenAI's `type`, OpenAI's `code`). A class that is not listed is treated as its nearest base class."""


_UNREADABLE: dict[type[Exception], str] = {
    UnicodeDecodeError: "The body is not valid UTF-8.",
    RecursionError: "The body is nested too deep.",
    ValueError: "The body has a number with too many digits.",
}
"""What made a body unreadable, by the error that FastAPI wraps."""


class ErrorDetail(BaseModel):
    """The message, the type and the code of an error, and the name of the wrong field if a field is wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """OpenAI's error shape."""

    error: ErrorDetail


RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text}
    for status, text in {
        400: "The request is wrong.",
        401: "No valid API key.",
        403: "This key may not do that.",
        404: "There is no such model.",
        409: "The present state of the server does not allow this.",
        410: "The adapter version is lost: its files are gone.",
        413: "The body is too large.",
        415: "The body has a content type or an encoding that is not served.",
        429: "This key has too many branches that run or wait; see Retry-After.",
        503: "The server is full or its engine is dead; see Retry-After.",
    }.items()
}


def body_of(error: Exception) -> tuple[int, dict[str, Any]]:
    """Return the status and the JSON body for an error. An unexpected error is a 500 whose message tells nothing."""
    while isinstance(error, ExceptionGroup):  # branches fail together, for one reason
        error = error.exceptions[0]
    for base in type(error).__mro__:
        if base in STATUS:
            status, kind, code = STATUS[base]
            return status, _body(str(error), kind, getattr(error, "parameter", None), code)
    logger.error("unexpected error", exc_info=error)
    return 500, _body("The server made a mistake.", "server_error", None, "internal_error")


def response_to(error: Exception) -> JSONResponse:
    """Return the HTTP response for an error."""
    status, body = body_of(error)
    headers = {}
    if status in (429, 503):
        headers["Retry-After"] = str(max(1, math.ceil(getattr(error, "retry_after", 5.0))))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, status, headers)


def install(app: FastAPI) -> None:
    """Register handlers for all errors that can be raised under this app."""

    @app.exception_handler(Exception)
    @app.exception_handler(errors.PonderError)
    @app.exception_handler(adapters.AdapterError)
    async def _handle_known_error(_request: Request, error: Exception) -> JSONResponse:
        return response_to(error)

    @app.exception_handler(RequestValidationError)
    async def _handle_validation_error(_request: Request, error: RequestValidationError) -> JSONResponse:
        return response_to(first_fault(error))

    @app.exception_handler(HTTPException)
    async def _handle_http_error(request: Request, error: HTTPException) -> JSONResponse:
        detail = next((text for kind, text in _UNREADABLE.items() if type(error.__cause__) is kind), str(error.detail))
        body = _body(detail, "invalid_request_error", None, None)
        headers = dict(error.headers or {})
        if error.status_code == 405:  # Starlette lists only the methods of the first route with this path
            routes = [
                route for route in app.routes if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
            ]
            headers["Allow"] = ", ".join(sorted(set().union(*(route.methods or () for route in routes))))
        return JSONResponse(body, error.status_code, headers)


def first_fault(error: RequestValidationError | ValidationError) -> errors.InvalidRequest:
    """Return the first error that the validation of a body found, with a message of this server and the name of the field."""
    faults = error.errors()
    first = faults[0]
    if first["type"] == "json_invalid":
        position = "".join(f" at character {part}" for part in first["loc"] if isinstance(part, int))
        return errors.InvalidRequest(
            f"The body is not valid JSON: {first.get('ctx', {}).get('error', first['msg'])}{position}."
        )
    if first["loc"] == ("body",) and isinstance(first["input"], bytes):
        return errors.UnsupportedMedia("The body must be JSON, sent with the header `Content-Type: application/json`.")
    inside = [{**fault, "loc": fault["loc"][fault["loc"][:1] == ("body",) :]} for fault in faults]
    if not inside[0]["loc"] and inside[0]["type"] in ("missing", "model_type", "model_attributes_type"):
        given = "it is empty" if inside[0]["input"] is None else f"it is {kind_of(inside[0]['input'])}"
        return errors.InvalidRequest(f"The body must be a JSON object; {given}.")
    where, message = describe(inside)
    return errors.InvalidRequest(f"{where}: {message}" if where else message, parameter=where or None)


def _body(message: str, kind: str, parameter: str | None, code: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": parameter, "code": code}}
