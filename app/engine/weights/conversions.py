"""Model folders that are converted from others once, and kept in the cache."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError

from adapters.disk import clear, flush, staging

STAGING_FOLDER = ".converting"
"""Folder beside the converted models in which unfinished ones are written."""


class ModelUnavailable(Exception):
    """The model does not exist, or cannot be converted or served as asked. The message is one line for the operator."""


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return `folder`, which `make` fills if it does not exist yet.

    `make` gets an empty folder of another name, which is renamed when it is complete. So an interrupted conversion is done again, and
    never served.

    Raises:
        ModelUnavailable: the folder cannot be written, or `make` could not read its source.

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
        if not folder.exists():  # else another process was faster, and its folder holds the same
            raise ModelUnavailable(f"{folder} cannot be made: {error}") from error
    finally:
        with suppress(OSError):  # not empty: another process converts too
            incoming.rmdir()
    return folder
