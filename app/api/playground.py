"""`/playground`: a web page that uses this API, served from files of the package alone, and the options that its controls offer.

The page itself holds no data and needs no key; its API calls need one. Its headers forbid it to load anything from other sites, to run
inline scripts, and to parse text as HTML: what a model writes stays text.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from app.api.pools import pools_of
from app.errors import NotFound
from app.request import Effort
from app.routing.planner import AUTO
from strategies.core.values import AnswerKind
from strategies.core.verifier import is_chosen_by_name
from strategies.registry import Registries

FOLDER = Path(__file__).parent.parent / "playground"

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".json": "application/json",
}
"""The media type by suffix. Only files with these suffixes are served."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # the browser asks each time whether its copy is current, which the ETag answers
}

router = APIRouter()


@dataclass(frozen=True, slots=True)
class File:
    """A file of the page, with its headers, as it is sent."""

    content: bytes
    media_type: str
    etag: str


def packaged(folder: Path = FOLDER) -> dict[str, File]:
    """Read the files of the page and return them by path. Requests are answered from this table and never read the disk."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in MEDIA_TYPES and path.is_file():
            content = path.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            found[path.relative_to(folder).as_posix()] = File(content, MEDIA_TYPES[path.suffix], etag)
    return found


@router.get("/", include_in_schema=False)
async def home() -> RedirectResponse:
    """Redirect a browser to the playground."""
    return RedirectResponse("playground")


@router.get("/playground", include_in_schema=False)
async def page(request: Request) -> Response:
    """Return the page."""
    return _served(request, "index.html")


@router.get("/playground/options")
async def options(request: Request) -> dict[str, Any]:
    """Return what may be chosen: strategies with the JSON schemas of their parameters, verifiers, efforts, kinds of answer."""
    registries: Registries = pools_of(request).first.planning.registries
    return {
        "strategies": [
            {
                "name": AUTO,
                "summary": "Chooses by the question, the effort and, where there is one, a calibrated policy.",
                "parameters": [],
            },
            *(
                {
                    "name": strategy.name,
                    "summary": strategy.summary,
                    "parameters": _parameters(strategy.Params.model_json_schema()),
                }
                for strategy in registries.strategies
            ),
        ],
        "verifiers": [
            {"name": verifier.name, "summary": verifier.summary}
            for verifier in registries.verifiers
            if is_chosen_by_name(verifier)
        ],
        "efforts": [effort.value for effort in Effort],
        "answer_kinds": [kind.value for kind in AnswerKind],
    }


@router.get("/playground/{path:path}", include_in_schema=False)
async def file(request: Request, path: str) -> Response:
    """Return one file of the page. The page itself has no slash at its end, since its links begin at the folder that holds it."""
    if not path:
        return RedirectResponse("../playground")
    return _served(request, path)


def _served(request: Request, path: str) -> Response:
    files: dict[str, File] = request.app.state.playground
    if path not in files:
        raise NotFound(f"There is no file `{path}` here.")
    one = files[path]
    headers = {**HEADERS, "ETag": one.etag}
    known = request.headers.get("if-none-match", "")
    if one.etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(one.content, media_type=one.media_type, headers=headers)


def _parameters(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parameters with their schemas. References are resolved one level deep, which is as deep as the form goes."""
    defined = schema.get("$defs", {})
    return [
        {
            "name": name,
            "description": field.get("description", ""),
            "default": field.get("default"),
            "schema": _resolved(
                {key: value for key, value in field.items() if key not in ("title", "description", "default")}, defined
            ),
        }
        for name, field in schema["properties"].items()
    ]


def _resolved(schema: dict[str, Any], defined: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without references. An object has only its description, since the form takes it as JSON."""
    if "$ref" in schema:
        target = defined[schema["$ref"].rpartition("/")[2]]
        return (
            {"type": "object", "description": target.get("description", "")} if target.get("type") == "object" else dict(target)
        )
    if "anyOf" in schema:
        return {"anyOf": [_resolved(one, defined) for one in schema["anyOf"]]}
    return schema
