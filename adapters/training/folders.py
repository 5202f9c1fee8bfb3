"""Checks the folders that commands are given, before anything is computed. It imports no library that trains."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from adapters.config import CONFIG_FILE, AdapterConfig, read_config
from adapters.errors import AdapterError
from adapters.training.errors import MachineRefused, RecipeRefused
from adapters.weights import WEIGHTS_FILE


@contextmanager
def exclusive_folder(out: Path, mode: int = 0o777) -> Iterator[None]:
    """Lock the result folder for this process, since two processes would write over each other's files.

    The lock belongs to the system, so that a kill leaves none. A folder that is still empty at the end is removed.

    Args:
        out: the folder, which is made where it is missing.
        mode: its permissions then.

    Raises:
        RecipeRefused: another process holds the lock.
        MachineRefused: the folder cannot be written.

    """
    try:
        out.mkdir(mode, parents=True, exist_ok=True)
        descriptor = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise MachineRefused(f"{out} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise RecipeRefused(f"another process works on {out}") from error
    try:
        yield
    finally:
        with suppress(OSError):  # the folder is not empty
            out.rmdir()
        os.close(descriptor)


def check_adapter(folder: Path) -> AdapterConfig:
    """Return the config of the adapter in the folder; raises `RecipeRefused` when there is no adapter."""
    try:
        config = read_config(folder / CONFIG_FILE)
    except OSError as error:
        raise RecipeRefused(f"{folder} holds no adapter: {CONFIG_FILE}: {error.strerror}") from error
    except AdapterError as error:
        raise RecipeRefused(f"{folder} holds no adapter: {error}") from error
    if not (folder / WEIGHTS_FILE).is_file():
        raise RecipeRefused(f"{folder} holds no adapter: there is no {WEIGHTS_FILE}")
    return config
