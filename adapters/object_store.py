"""Versions of adapters in a folder behind a URL, where other machines find them. fsspec opens it, such as `s3://` or `gs://`.

    <url>/<name>/<sha256>/    the files of the version, the manifest last

A version never changes, so it is written once. All methods block: call them from a thread.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adapters.chat_template import CHAT_TEMPLATE_FILE
from adapters.config import CONFIG_FILE
from adapters.content import digest
from adapters.disk import put_in_place, staging
from adapters.verifier_prompt import PONDER_CONFIG_FILE
from adapters.version import MANIFEST_FILE, AdapterVersion
from adapters.weights import WEIGHTS_FILE

FILES = (CONFIG_FILE, WEIGHTS_FILE, PONDER_CONFIG_FILE, CHAT_TEMPLATE_FILE, MANIFEST_FILE)
"""The files that a version may have. The manifest is written last, so where it is, all are."""


class ObjectStoreFailed(OSError):
    """The store cannot be reached, or refuses."""


class ObjectStore:
    """The folder of all adapters behind a URL.

    Args:
        url: of the folder. fsspec's implementation finds the rest, such as keys, in the environment.

    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._opened: tuple[Any, str] | None = None
        self._opening = threading.Lock()

    def url_of(self, key: str) -> str:
        """Return the URL of the version with this `AdapterVersion.key`."""
        return f"{self.url}/{key.replace(':', '/')}"

    def put(self, key: str, folder: Path) -> None:
        """Write a version, if it is not there as a whole. Raises `ObjectStoreFailed`."""
        with self._folder(key) as (files, target):
            if not _is_whole(files, target, key):
                files.makedirs(target, exist_ok=True)
                for name in FILES:
                    if (folder / name).is_file():
                        files.put_file(str(folder / name), f"{target}/{name}")

    def fetch(self, key: str, folder: Path) -> bool:
        """Write the files of a version into a folder; returns False where it is not there as a whole. Raises `ObjectStoreFailed`."""
        with self._folder(key) as (files, source):
            if not _is_whole(files, source, key):
                return False
            for name in FILES:
                if files.exists(f"{source}/{name}"):
                    files.get_file(f"{source}/{name}", str(folder / name))
        return _hash_of(folder) == key.rpartition(":")[2]

    def remove(self, key: str) -> None:
        """Delete a version, or all of a name. Raises `ObjectStoreFailed`."""
        with self._folder(key) as (files, target):
            if not files.exists(target):
                return
            # First the manifests: without one, what a kill leaves is no version, and is written again.
            manifests = [path for path in files.find(target) if path.endswith(f"/{MANIFEST_FILE}")]
            if manifests:
                files.rm(manifests)
            if files.exists(target):  # a store without folders has none that is empty
                files.rm(target, recursive=True)

    @contextmanager
    def _folder(self, key: str) -> Iterator[tuple[Any, str]]:
        """Give fsspec's file system and the path of a version in it."""
        try:
            yield self._files(), f"{self._root}/{key.replace(':', '/')}"
        except ObjectStoreFailed:
            raise
        except Exception as error:  # each implementation has errors of its own
            raise ObjectStoreFailed(f"{self.url}: {type(error).__name__}: {error}"[:300]) from error

    def _files(self) -> Any:
        with self._opening:
            if self._opened is None:
                from fsspec.core import url_to_fs  # noqa: PLC0415 - takes a while

                # Another process writes there too, so what was listed before means nothing.
                self._opened = url_to_fs(self.url, use_listings_cache=False)
            return self._opened[0]

    @property
    def _root(self) -> str:
        assert self._opened is not None
        return self._opened[1].rstrip("/")


class AdapterCache:
    """Versions from an object store on this machine's disk, for an engine that was told their URLs.

    Args:
        store: where they come from.
        folder: keeps them. It may be emptied while nothing is loaded.

    """

    def __init__(self, store: ObjectStore, folder: Path) -> None:
        self._store = store
        self._folder = folder

    def find(self, url: str) -> Path | None:
        """Return the folder of the version at a URL of the store, None for every other URL, and where it is not as its hash says.

        Raises `ObjectStoreFailed`.
        """
        name, _, version = url.removeprefix(f"{self._store.url}/").partition("/")
        is_own = url.startswith(f"{self._store.url}/") and name.strip(".") and len(version) == 64 and version.isalnum()
        if not is_own:
            return None
        place = self._folder / name / version
        if not place.is_dir():
            with staging(self._folder / ".incoming") as incoming:
                if not self._store.fetch(f"{name}:{version}", incoming):
                    return None
                place.parent.mkdir(parents=True, exist_ok=True)
                put_in_place(incoming, place)
        return place


def _is_whole(files: Any, folder: str, key: str) -> bool:
    """Return whether a folder of the store has the manifest of a version: a whole one, since a kill may have cut it off."""
    try:
        manifest = AdapterVersion.model_validate_json(files.cat_file(f"{folder}/{MANIFEST_FILE}"))
    except (FileNotFoundError, ValidationError):
        return False
    return manifest.key == key


def _hash_of(folder: Path) -> str | None:
    """Return the hash of the content of a folder, None where a file is missing."""
    try:
        return digest(
            folder,
            has_ponder_config=(folder / PONDER_CONFIG_FILE).is_file(),
            has_chat_template=(folder / CHAT_TEMPLATE_FILE).is_file(),
        )
    except OSError:
        return None
