"""The `ponder` command: puts all commands together."""

from importlib.metadata import version
from typing import Annotated

import typer

from app.cli import adapters, ask, calibrate, replica, serve, train
from app.cli.client import exit_with_error
from app.cli.engine_options import EngineOptionsCommand
from app.cli.model_options import GroupedCommand

# Without rich markup, help and errors are plain text: narrow pages stay readable, and rich need not be imported.
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
app.command(cls=EngineOptionsCommand)(serve.serve)
app.command(cls=EngineOptionsCommand)(replica.replica)
app.command(cls=GroupedCommand)(ask.ask)
app.command(cls=GroupedCommand)(ask.explain)
app.add_typer(adapters.app, name="adapters")
app.add_typer(train.app, name="train")
app.command(cls=GroupedCommand)(train.prune)
app.command(cls=GroupedCommand)(calibrate.calibrate)
app.command(cls=GroupedCommand)(calibrate.cascade)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"ponder {version('ponder')}")
        raise typer.Exit


@app.callback()
def ponder(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Serve, calibrate and train language models that spend more compute on harder questions."""


def main() -> None:
    """Run the command line of this process; exits with the status of the command.

    A path that cannot be read or written is told in one line, whatever command it was given to.
    """
    try:
        app(prog_name="ponder")
    except OSError as error:
        if error.filename is None:
            raise
        exit_with_error(f"{error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()
