"""`ponder adapters …`: the adapters of a running server, for people as tables, for scripts as JSON. Speaks HTTP, nothing else."""

import json
import sys
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn
from rich.table import Table

from adapters.config import CONFIG_FILE
from adapters.verifier_prompt import NOTES_FILE
from adapters.weights import WEIGHTS_FILE
from app.cli.client import Json, Url, connect, ok, print_json
from app.settings import ClientSettings

app = typer.Typer(no_args_is_help=True, help="List, push, activate and remove LoRA adapters of a running server.")

Key = Annotated[str | None, typer.Option("--key", help="Key for administration. [PONDER_ADMIN_KEY]")]


@app.command("list")
def list_(url: Url = None, key: Key = None, as_json: Json = False) -> None:
    """All adapters."""
    with _server(url, key) as server:
        answer = ok(server.get("/v1/adapters"))
    if as_json:
        print_json(answer["data"])
        return
    table = _table("adapter", "state", "version", "rank", "modules", "size", "versions", "leases")
    for adapter in answer["data"]:
        versions = adapter["versions"]
        shown = next((one for one in versions if one["is_current"]), versions[-1])
        table.add_row(
            adapter["id"], adapter["state"], shown["version"][:8] if adapter["current"] else "-", str(shown["rank"]),
            str(len(shown["target_modules"])), _size(shown["size"]), str(len(versions)), str(sum(v["leases"] for v in versions)),
        )  # fmt: skip
    Console().print(table)


@app.command()
def show(name: str, url: Url = None, key: Key = None, as_json: Json = False) -> None:
    """One adapter with all its versions, or one version as `name:sha8`."""
    with _server(url, key) as server:
        answer = ok(server.get(f"/v1/adapters/{name}"))
    if as_json:
        print_json(answer)
        return
    table = _table("version", "", "engine", "leases", "rank", "alpha", "size", "created", wide=("modules", "source"))
    versions = answer.get("versions", [answer])
    for one in versions:
        state = f"lost: {one['lost']}" if one["lost"] else one["engine"] or "-"
        table.add_row(
            one["version"][:8], "current" if one["is_current"] else "", state, str(one["leases"]), str(one["rank"]),
            f"{one['alpha']:g}", _size(one["size"]), one["created"][:16], " ".join(one["target_modules"]), one["source"],
        )  # fmt: skip
    Console().print(table)
    for one in versions:
        if inquiry := one.get("inquiry"):
            asked, yes, no = (json.dumps(inquiry[part]) for part in ("template", "yes", "no"))  # escaped: it is somebody else's
            line = f"{one['version'][:8]} judges: asked {_shortened(asked)}, it says {yes} or {no}"
            Console().print(line, markup=False, highlight=False, soft_wrap=True)


@app.command()
def push(
    name: Annotated[str, typer.Argument(help="Name to serve it under.")],
    path: Annotated[Path, typer.Argument(help="A peft folder, or a zip of one.", exists=True)],
    activate: Annotated[bool, typer.Option(help="Serve it at once.")] = True,
    url: Url = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Upload an adapter and serve it."""
    with _server(url, key) as server, ExitStack() as stack:
        bar = stack.enter_context(_progress())
        files = [("archive", path)] if path.is_file() else [("files", file) for file in _parts(path)]
        if missing := [file for _, file in files if not file.is_file()]:
            sys.exit(f"ponder: there is no {missing[0]}")
        parts = [
            (field, (file.name, stack.enter_context(bar.open(file, "rb", description=file.name)))) for field, file in files
        ]
        answer = ok(server.post("/v1/adapters", data={"name": name, "activate": str(activate).lower()}, files=parts))
    served = "is served as" if activate else "can be activated as"
    _report(answer, f"{name}:{answer['version'][:8]} {served} [bold]{name}[/bold]", as_json=as_json)


@app.command()
def activate(name: str, version: str, url: Url = None, key: Key = None, as_json: Json = False) -> None:
    """Let a name stand for one of its versions (at least eight digits of its hash)."""
    with _server(url, key) as server:
        answer = ok(server.post(f"/v1/adapters/{name}/activate", json={"version": version}))
    _report(answer, f"[bold]{name}[/bold] is now {name}:{answer['version'][:8]}", as_json=as_json)


@app.command()
def remove(name: str, url: Url = None, key: Key = None, as_json: Json = False) -> None:
    """Delete an adapter, or one version of it as `name:sha8`."""
    with _server(url, key) as server:
        answer = ok(server.delete(f"/v1/adapters/{name}"))
    _report(answer, f"{name} is deleted", as_json=as_json)


def _progress() -> Progress:
    """On the terminal only: what scripts read is not disturbed."""
    console = Console(stderr=True)
    return Progress(
        "{task.description}",
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _server(url: str | None, key: str | None) -> AbstractContextManager[httpx.Client]:
    return connect(url, key or ClientSettings().admin_key)


def _report(answer: Any, line: str, *, as_json: bool) -> None:
    """How a change ends: the server's answer for scripts, a line for people."""
    if as_json:
        print_json(answer)
    else:
        Console().print(line)


def _parts(folder: Path) -> list[Path]:
    """The files of a peft folder that are sent; the notes only where there are some."""
    notes = [place for place in folder.iterdir() if place.name == NOTES_FILE]
    return [folder / CONFIG_FILE, folder / WEIGHTS_FILE, *notes]


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"


def _table(*columns: str, wide: tuple[str, ...] = ()) -> Table:
    """Plain, and narrow: only the `wide` columns are folded."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for column in wide:
        table.add_column(column, overflow="fold")
    return table


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB"
