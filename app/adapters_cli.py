"""`ponder adapters …`: the adapters of a running server, for people as tables, for scripts as JSON. Speaks HTTP, nothing else."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn
from rich.table import Table

from adapters.config import CONFIG_FILE
from adapters.weights import WEIGHTS_FILE
from app.settings import ClientSettings

app = typer.Typer(no_args_is_help=True, help="List, push, activate and remove LoRA adapters of a running server.")

Url = Annotated[str | None, typer.Option("--url", help="Address of the server. [PONDER_URL; http://127.0.0.1:8000]")]
Key = Annotated[str | None, typer.Option("--key", help="Key for administration. [PONDER_ADMIN_KEY]")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@app.command("list")
def list_(url: Url = None, key: Key = None, as_json: Json = False) -> None:
    """All adapters."""
    with _server(url, key) as server:
        answer = _ok(server.get("/v1/adapters"))
    if as_json:
        _print_json(answer["data"])
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
        answer = _ok(server.get(f"/v1/adapters/{name}"))
    if as_json:
        _print_json(answer)
        return
    table = _table("version", "", "engine", "leases", "rank", "alpha", "size", "created", wide=("modules", "source"))
    for one in answer.get("versions", [answer]):
        state = f"lost: {one['lost']}" if one["lost"] else one["engine"] or "-"
        table.add_row(
            one["version"][:8], "current" if one["is_current"] else "", state, str(one["leases"]), str(one["rank"]),
            f"{one['alpha']:g}", _size(one["size"]), one["created"][:16], " ".join(one["target_modules"]), one["source"],
        )  # fmt: skip
    Console().print(table)


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
        files = [("archive", path)] if path.is_file() else [("files", path / file) for file in (CONFIG_FILE, WEIGHTS_FILE)]
        if missing := [file for _, file in files if not file.is_file()]:
            sys.exit(f"ponder: there is no {missing[0]}")
        parts = [
            (field, (file.name, stack.enter_context(bar.open(file, "rb", description=file.name)))) for field, file in files
        ]
        answer = _ok(server.post("/v1/adapters", data={"name": name, "activate": str(activate).lower()}, files=parts))
    if as_json:
        _print_json(answer)
    else:
        served = "is served as" if activate else "can be activated as"
        Console().print(f"{name}:{answer['version'][:8]} {served} [bold]{name}[/bold]")


@app.command()
def activate(name: str, version: str, url: Url = None, key: Key = None, as_json: Json = False) -> None:
    """Let a name stand for one of its versions (at least eight digits of its hash)."""
    with _server(url, key) as server:
        answer = _ok(server.post(f"/v1/adapters/{name}/activate", json={"version": version}))
    if as_json:
        _print_json(answer)
    else:
        Console().print(f"[bold]{name}[/bold] is now {name}:{answer['version'][:8]}")


@app.command()
def remove(name: str, url: Url = None, key: Key = None, as_json: Json = False) -> None:
    """Delete an adapter, or one version of it as `name:sha8`."""
    with _server(url, key) as server:
        answer = _ok(server.delete(f"/v1/adapters/{name}"))
    if as_json:
        _print_json(answer)
    else:
        Console().print(f"{name} is deleted")


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


@contextmanager
def _server(url: str | None, key: str | None) -> Iterator[httpx.Client]:
    settings = ClientSettings()
    key = key or settings.admin_key
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx.Client(base_url=url or settings.url, headers=headers, timeout=httpx.Timeout(600, connect=10)) as client:
            yield client
    except httpx.HTTPError as error:
        sys.exit(f"ponder: no answer from {url or settings.url}: {error}")


def _ok(response: httpx.Response) -> Any:
    """The JSON of a success; ends the command with the server's own words otherwise."""
    try:
        answer = response.json()
    except ValueError:
        sys.exit(f"ponder: {response.status_code}: this is not a ponder server")
    if response.is_error:
        sys.exit(f"ponder: {answer.get('error', {}).get('message', response.status_code)}")
    return answer


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


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
