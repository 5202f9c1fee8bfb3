"""Model folders that are made once from others and kept."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from adapters.disk import flush


class ModelUnavailable(Exception):
    """There is no such model, or it cannot be converted or served as asked; the message is one line for the operator."""


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`; when it is not there, `make` fills an empty folder that becomes it.

    The folder appears under its name only when it is complete, so that an interrupted conversion is redone, never served.
    """
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
    try:
        make(unfinished)
        flush(*unfinished.iterdir(), unfinished)
        unfinished.rename(folder)
    except OSError:
        if not folder.exists():  # else another process was faster, and its conversion is as good
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder
