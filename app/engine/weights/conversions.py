"""Model folders that are made once from others and kept."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError

from adapters.disk import clear, flush, staging

STAGING_FOLDER = ".converting"


class ModelUnavailable(Exception):
    """There is no such model, or it cannot be converted or served as asked; the message is one line for the operator."""


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`; when it is not there, `make` fills an empty folder that becomes it.

    The folder appears under its name only when it is complete, so that an interrupted conversion is redone, never served. Raises
    `ModelUnavailable` when it cannot be written.
    """
    if folder.exists():
        return folder
    incoming = folder.parent / STAGING_FOLDER
    try:
        clear(incoming)
        with staging(incoming) as unfinished:
            make(unfinished)
            flush(*unfinished.iterdir(), unfinished)
            unfinished.rename(folder)
    except (OSError, SafetensorError) as error:
        if not folder.exists():  # else another process was faster, and its conversion is as good
            raise ModelUnavailable(f"{folder} cannot be made: {error}") from error
    finally:
        with suppress(OSError):  # another process works in it
            incoming.rmdir()
    return folder
