"""Asks the front end that has a trace, where this one does not. What was forwarded once is never forwarded again."""

from urllib.parse import quote

from fastapi import Request, Response

from app.api.pools import pools_of
from app.errors import UnknownTrace
from app.request import Caller
from app.shared.alone import PeerCall

FORWARDED = "x-ponder-forwarded"
"""The header of a request that another front end has sent."""

_PASSED_ON = ("authorization", "x-api-key")


async def from_owner(request: Request, who: Caller, trace_id: str, unknown: UnknownTrace, *, content: bytes = b"") -> Response:
    """Return the reply of the front end that has the trace, or raise `unknown`.

    Args:
        request: whose method is sent on, and of whose headers the caller's key is.
        who: the caller.
        trace_id: of the trace.
        unknown: what this front end would say by itself.
        content: the body of feedback on the trace; empty asks for the trace.

    """
    if FORWARDED in request.headers:
        raise unknown
    key = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
    path = "/v1/feedback" if content else f"/v1/traces/{quote(trace_id, safe='')}"
    headers = {**key, FORWARDED: "1", "content-type": "application/json"}
    reply = await pools_of(request).first.shared.ask_for_trace(
        who.owner, trace_id, PeerCall(request.method, path, headers, content)
    )
    # Feedback may be refused, on a request that was not answered for instance.
    if reply is None or (reply.status != 200 and not (content and reply.status == 400)):
        raise unknown
    return Response(reply.body, reply.status, media_type="application/json")
