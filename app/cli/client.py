"""What the commands share that speak to a running server: the connection, its errors in one line, and texts that others wrote."""

import json
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Annotated, Any, NoReturn

import httpx
import typer

from app.settings import ClientSettings

Url = Annotated[str | None, typer.Option("--url", help="Address of the server. [PONDER_URL; http://127.0.0.1:8000]")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]

_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's controls, invisible formats (bidirectional ones among them), surrogates, line and paragraph separators."""

_SAFE = frozenset("\n\t\u200c\u200d")
"""Of those, what texts need: emoji and several scripts have joiners."""


@contextmanager
def connect(url: str | None, key: str | None) -> Iterator[httpx.Client]:
    """A client of the server; ends the command in one line when nobody answers."""
    url = url or ClientSettings().url
    headers = {b"Authorization": f"Bearer {key}".encode(errors="surrogateescape")} if key else {}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=httpx.Timeout(600, connect=10)) as client:
            yield client
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        fail(f"no answer from {url}: {error}")


def ok(response: httpx.Response) -> Any:
    """The JSON of a success; ends the command with the server's own words otherwise."""
    try:
        answer = response.json()
    except ValueError:
        fail(f"{response.status_code}: this is not a ponder server")
    if response.is_error:
        fail(answer.get("error", {}).get("message", response.status_code))
    return answer


def events(response: httpx.Response) -> Iterator[Any]:
    """The JSON events of a stream. Lines end at a line feed only: httpx's end at U+0085 and U+2028 too, which texts contain."""
    rest = b""
    for chunk in response.iter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (json.loads(line[6:]) for line in lines if line.startswith(b"data: {"))


def fail(message: object) -> NoReturn:
    """End the command with status 1 and one line."""
    sys.exit(f"ponder: {one_line(str(message))}")


def need(extra: str, *modules: str) -> None:
    """End the command in one line when a library that comes with an extra is not installed."""
    if missing := [name for name in modules if find_spec(name) is None]:
        fail(f"{missing[0]} is not installed: pip install 'ponder[{extra}]'")


def clean(text: str) -> str:
    r"""Somebody else's text for a terminal: what could steer it is shown as `\x1b`; line feeds and tabs stay."""
    text = text.replace("\r\n", "\n")
    return "".join(
        char if char in _SAFE or unicodedata.category(char) not in _UNSAFE else char.encode("unicode_escape").decode()
        for char in text
    )


def one_line(text: str) -> str:
    """The same in one line."""
    return clean(" ".join(text.split()))


def print_json(value: Any) -> None:
    """For scripts; all but printable ASCII is escaped."""
    typer.echo(json.dumps(value, indent=2).replace("\x7f", "\\u007f"))
