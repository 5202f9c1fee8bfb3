"""Checks API keys. Keys are compared in constant time, and a request carries only a hash of its key."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.errors import response_to
from app.errors import Forbidden, Unauthorized
from app.request import Caller

ANONYMOUS = Caller("anonymous")

NO_KEY = "No valid API key was given: send `Authorization: Bearer KEY` or `x-api-key: KEY`."

_bearer = HTTPBearer(auto_error=False, description="An API key, when the server has any.")
_header = APIKeyHeader(name="x-api-key", auto_error=False, description="The same key, as clients of Anthropic send it.")


class Access:
    """The API keys and the keys for administration of one server."""

    def __init__(self, api_keys: Iterable[str], admin_keys: Iterable[str]) -> None:
        self._api = [_digest(key) for key in api_keys]
        self._admin = [_digest(key) for key in admin_keys]
        self._secret = secrets.token_bytes(32)

    def caller(self, credentials: HTTPAuthorizationCredentials | None) -> Caller:
        """Return the caller of a key, or raise `Unauthorized`.

        Each key has its own cache salt. So a caller cannot find out from the prefix cache what other callers' prompts contain.
        """
        if not self._api:
            return ANONYMOUS
        digest = _digest(credentials.credentials if credentials else "")
        if not _is_among(digest, self._api):
            raise Unauthorized(NO_KEY)
        salt = hmac.new(self._secret, digest, hashlib.sha256).hexdigest()
        return Caller(salt[:16], cache_salt=salt, owner=hashlib.sha256(b"owner:" + digest).hexdigest()[:32])

    def knows(self, key: str) -> bool:
        """Whether this is one of the keys, of either kind."""
        return _is_among(_digest(key), [*self._api, *self._admin])

    def admit_administrator(self, credentials: HTTPAuthorizationCredentials | None) -> None:
        """Raise `Unauthorized` unless the key is one for administration. A server without such keys admits everyone."""
        if self._admin and not _is_among(_digest(credentials.credentials if credentials else ""), self._admin):
            raise Unauthorized("This route needs a key for administration.")

    def admit_change(self, credentials: HTTPAuthorizationCredentials | None, fetch_site: str | None) -> None:
        """Raise `Unauthorized` or `Forbidden` unless the caller may change the server.

        Without keys for administration, only a server without any keys may be changed: it listens on the loopback interface alone.
        Even then, web pages of other sites in a browser on this machine may not change it.
        """
        self.admit_administrator(credentials)
        if not self._admin and self._api:
            raise Forbidden("This server has no keys for administration: start it with PONDER_ADMIN_KEYS.")
        if not self._admin and fetch_site not in (None, "same-origin", "none"):
            raise Forbidden("Pages of other sites may not change this server.")


class KnownCallers:
    """ASGI middleware that refuses a request with a body and without a key, before the body is read and parsed.

    The routes check which key it is. It is for servers with API keys; without them, everyone may send bodies.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in ("POST", "PUT", "PATCH"):
            request = Request(scope)
            credentials = _credentials(await _bearer(request), await _header(request))
            if credentials is None or not self._access.knows(credentials.credentials):
                await response_to(Unauthorized(NO_KEY))(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _is_among(digest: bytes, digests: list[bytes]) -> bool:
    # all keys are compared, so that the time tells nothing about the keys
    return sum(hmac.compare_digest(digest, known) for known in digests) > 0


def _credentials(bearer: HTTPAuthorizationCredentials | None, key: str | None) -> HTTPAuthorizationCredentials | None:
    """Return what a request carries: `Authorization: Bearer KEY`, else `x-api-key: KEY`."""
    if bearer is None and key is not None:
        return HTTPAuthorizationCredentials(scheme="Bearer", credentials=key)
    return bearer


async def caller(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    key: Annotated[str | None, Depends(_header)],
) -> Caller:
    """FastAPI dependency that returns the caller. It is async, since FastAPI runs other dependencies in a thread."""
    return request.app.state.access.caller(_credentials(credentials, key))  # type: ignore[no-any-return]


Who = Annotated[Caller, Depends(caller)]
"""The caller, as a parameter of a route."""


async def administrator(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    """FastAPI dependency that refuses callers without a key for administration."""
    request.app.state.access.admit_administrator(credentials)


async def changer(request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
    """FastAPI dependency that refuses callers who may not change the server."""
    request.app.state.access.admit_change(credentials, request.headers.get("sec-fetch-site"))
