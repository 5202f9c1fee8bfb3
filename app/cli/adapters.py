"""`ponder adapters …`: the adapters of a running server over HTTP, as tables for people and as JSON for scripts."""

import json
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn
from rich.table import Table

from app.cli.client import Json, Url, connect, exit_with_error, json_or_exit, print_json
from app.cli.model_options import GroupedCommand
from app.settings import ClientSettings

if TYPE_CHECKING:
    import httpx  # imported by `connect`: help pages do not need it

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Manage the LoRA adapters of a running server.")

Key = Annotated[str | None, typer.Option("--key", metavar="<text>", help="key for administration [env: PONDER_ADMIN_KEY]")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="name of the adapter")]
NameOrVersion = Annotated[
    str, typer.Argument(metavar="NAME", help="name of the adapter, or one of its versions as `name:sha8`")
]


@app.command("list", cls=GroupedCommand)
def list_(url: Url = None, key: Key = None, as_json: Json = False) -> None:
    """List all adapters."""
    with _server(url, key) as server:
        answer = json_or_exit(server.get("/v1/adapters"))
    if as_json:
        print_json(answer["data"])
        return
    table = _table("adapter", "state", "version", "rank", "modules", "size", "versions", "leases")
    for adapter in answer["data"]:
        versions = adapter["versions"]
        listed = next((one for one in versions if one["is_current"]), versions[-1])
        table.add_row(
            adapter["id"], _state(adapter), listed["version"][:8] if adapter["current"] else "-", str(listed["rank"]),
            str(len(listed["target_modules"])), _size(listed["size"]), str(len(versions)), str(sum(v["leases"] for v in versions)),
        )  # fmt: skip
    Console().print(table)


@app.command(cls=GroupedCommand)
def show(name: NameOrVersion, url: Url = None, key: Key = None, as_json: Json = False) -> None:
    """Show an adapter with all its versions."""
    with _server(url, key) as server:
        answer = json_or_exit(server.get(f"/v1/adapters/{name}"))
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
        if prompt := one.get("verifier_prompt", one.get("inquiry")):  # the old name, of a server of ponder 0.1
            # escaped, since another person wrote the prompt
            asked, yes, no = (json.dumps(prompt[part]) for part in ("template", "yes", "no"))
            line = f"{one['version'][:8]} judges: asked {_shortened(asked)}, it says {yes} or {no}"
            Console().print(line, markup=False, highlight=False, soft_wrap=True)


@app.command(cls=GroupedCommand)
def push(
    name: Annotated[str, typer.Argument(metavar="NAME", help="name of the adapter in the API")],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="folder as peft saves it, or a zip file of one", exists=True)],
    activate: Annotated[bool, typer.Option(help="serve this version at once [default: yes]", show_default=False)] = True,
    base_model: Annotated[
        str | None, typer.Option(metavar="<name>", help="base model that it was trained for, where the server has several")
    ] = None,
    url: Url = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Upload an adapter, and serve it under a name."""
    with _server(url, key) as server, ExitStack() as stack:
        bar = stack.enter_context(_progress())
        files = [("archive", path)] if path.is_file() else [("files", file) for file in _files_to_send(path)]
        if missing := [file for _, file in files if not file.is_file()]:
            exit_with_error(f"there is no {missing[0]}")
        parts = [
            (field, (file.name, stack.enter_context(bar.open(file, "rb", description=file.name)))) for field, file in files
        ]
        fields = {"name": name, "activate": str(activate).lower()} | ({"base_model": base_model} if base_model else {})
        answer = json_or_exit(server.post("/v1/adapters", data=fields, files=parts))
    served = "is served as" if activate else "can be activated as"
    _report(answer, f"{name}:{answer['version'][:8]} {served} [bold]{name}[/bold]", as_json=as_json)


@app.command(cls=GroupedCommand)
def activate(
    name: Name,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="at least eight digits of the version's hash")],
    url: Url = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Serve another version of an adapter under its name."""
    with _server(url, key) as server:
        answer = json_or_exit(server.post(f"/v1/adapters/{name}/activate", json={"version": version}))
    _report(answer, f"[bold]{name}[/bold] is now {name}:{answer['version'][:8]}", as_json=as_json)


@app.command(cls=GroupedCommand)
def remove(name: NameOrVersion, url: Url = None, key: Key = None, as_json: Json = False) -> None:
    """Delete an adapter, or one of its versions."""
    with _server(url, key) as server:
        answer = json_or_exit(server.delete(f"/v1/adapters/{name}"))
    _report(answer, f"{name} is deleted", as_json=as_json)


def _progress() -> Progress:
    """Return a progress bar on stderr. It is drawn only on a terminal, so that scripts find nothing but the result in the output."""
    console = Console(stderr=True)
    return Progress(
        "{task.description}",
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _server(url: str | None, key: str | None) -> AbstractContextManager["httpx.Client"]:
    """A connection with the key for administration from the option or the environment."""
    return connect(url, key or ClientSettings().admin_key)


def _report(answer: Any, line: str, *, as_json: bool) -> None:
    """Print the result of a change: the server's answer for scripts, a line for people."""
    if as_json:
        print_json(answer)
    else:
        Console().print(line)


def _files_to_send(folder: Path) -> list[Path]:
    """The files of a peft folder that the server reads: configuration, weights, and ponder's own file when there is one."""
    # These modules import numpy, which the other commands and the help pages do not need.
    from adapters.config import CONFIG_FILE  # noqa: PLC0415
    from adapters.verifier_prompt import PONDER_CONFIG_FILE  # noqa: PLC0415
    from adapters.weights import WEIGHTS_FILE  # noqa: PLC0415

    ponder_config = [place for place in folder.iterdir() if place.name == PONDER_CONFIG_FILE]
    return [folder / CONFIG_FILE, folder / WEIGHTS_FILE, *ponder_config]


def _shortened(text: str) -> str:
    """At most 200 characters of a text, then an ellipsis."""
    return text if len(text) <= 200 else f"{text[:200]}…"


def _state(adapter: dict[str, Any]) -> str:
    """Return the state of an adapter, with the version that the other front ends serve and this one cannot."""
    awaited = adapter.get("awaited")  # which older servers do not tell
    return f"{adapter['state']}, awaits {awaited[:8]}" if awaited else str(adapter["state"])


def _table(*columns: str, wide: tuple[str, ...] = ()) -> Table:
    """A table without lines; the `wide` columns are folded to the width of the terminal, the others are not."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for column in wide:
        table.add_column(column, overflow="fold")
    return table


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB"
