"""Anthropic's error shape, for every error under the paths of its API: also for those that the middleware raises."""

from typing import Any

import orjson
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import body_of

PATHS = ("/v1/messages", "/v1/messages/count_tokens")

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}
"""Anthropic's name for an error by its status. Other statuses below 500 are wrong requests."""

_FULL = ("overloaded", "no_adapter_slot")
"""Codes of this server's errors that say that it is full, with the status 503, for which Anthropic has 529."""

_NO_THREADS = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
"""Tells Anthropic's clients to send the whole conversation instead: their tool runner asks for a thread first."""


def error_body(status: int, body: dict[str, Any], request_id: str) -> dict[str, Any]:
    """Return Anthropic's body for an error with this status and this body in OpenAI's shape."""
    error = body["error"]
    kind = _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    if error.get("code") in _FULL:
        kind = "overloaded_error"
    detail = {"type": kind, "message": error["message"]}
    if error.get("param") == "thread":
        detail["details"] = _NO_THREADS
    return {"type": "error", "error": detail, "request_id": request_id}


class AnthropicErrors:
    """Rewrites the errors of Anthropic's paths into its shape, and names the request in the header that its clients read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].rstrip("/").endswith(PATHS):
            await self._app(scope, receive, send)
            return
        request_id = scope["state"]["request_id"]
        start: Message = {}
        body = b""

        async def send_rewritten(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                MutableHeaders(scope=message)["request-id"] = request_id
            is_error = start["status"] >= 400
            if not is_error:
                await send(message)
            elif message["type"] == "http.response.body":
                body += message.get("body", b"")
                if not message.get("more_body"):
                    await _send_error(start, _parsed(start["status"], body), request_id, send)

        try:
            await self._app(scope, receive, send_rewritten)
        except Exception as error:
            if not start:
                start = {"type": "http.response.start", "headers": [(b"content-type", b"application/json")]}
                start["status"], content = body_of(error)
                await _send_error(start, content, request_id, send)
            raise


def _parsed(status: int, body: bytes) -> dict[str, Any]:
    """Return the body of an error; what is no JSON, such as a refused preflight, becomes its message."""
    try:
        parsed: dict[str, Any] = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {"error": {"message": body.decode(errors="replace") or f"The status is {status}."}}
    return parsed


async def _send_error(start: Message, body: dict[str, Any], request_id: str, send: Send) -> None:
    content = orjson.dumps(error_body(start["status"], body, request_id))
    MutableHeaders(scope=start)["content-length"] = str(len(content))
    await send(start)
    await send({"type": "http.response.body", "body": content})
