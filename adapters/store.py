"""Adapter versions on disk: immutable, named by their content, there as a whole or not at all.

    <root>/<name>/<sha256>/{adapter_config.json, adapter_model.safetensors, manifest.json}
    <root>/<name>/current            the version that the name stands for
    <root>/.incoming/<random>/       what is being written or thrown away

Everything is made in `.incoming`, flushed, and put in its place by one rename, so that a process killed at any moment leaves either
the old state or the new one, and rubbish only where the next start clears it. Blocking: call it from a thread. Knows no engine.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from adapters.config import CONFIG_FILE, read_config
from adapters.errors import AdapterRefused
from adapters.version import Shelf, Version
from adapters.weights import WEIGHTS_FILE, BaseModel, Weights, check_numbers, read_weights

MANIFEST_FILE = "manifest.json"
CURRENT_FILE = "current"
INCOMING = ".incoming"
GONE = "its files are gone"


class Store:
    """The folder of all adapters.

    Args:
        root: made when it is not there.
        base: the base model that versions must fit.
        max_rank: the highest rank that the engine has room for.
        on_step: called between any two steps that change the disk; tests kill the process there.

    """

    def __init__(
        self, root: Path, base: BaseModel, *, max_rank: int, on_step: Callable[[str], None] = lambda _step: None
    ) -> None:
        self._root = root
        self._base = base
        self._max_rank = max_rank
        self._step = on_step
        self._incoming = root / INCOMING

    def scan(self) -> list[Shelf]:
        """What is there, after clearing what a killed process left."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        for leftover in self._incoming.iterdir():
            if leftover.is_dir() and not _is_held(leftover):
                shutil.rmtree(leftover, ignore_errors=True)
        shelves = []
        for folder in sorted(self._root.iterdir()):
            if folder.name == INCOMING or not folder.is_dir():
                continue
            versions = tuple(filter(None, (self._read(path) for path in sorted(folder.iterdir()))))
            if not versions:
                with suppress(OSError):  # not empty: not ours to remove
                    folder.rmdir()
                continue
            current = _text(folder / CURRENT_FILE)
            shelves.append(Shelf(folder.name, versions, current if any(v.version == current for v in versions) else None))
        return shelves

    def path(self, version: Version) -> Path:
        """Where its files are."""
        return self._root / version.name / version.version

    def is_intact(self, version: Version) -> bool:
        """Whether its files are there, by their sizes."""
        try:
            weights = (self.path(version) / WEIGHTS_FILE).stat()
            return weights.st_size == version.size and (self.path(version) / CONFIG_FILE).stat().st_size > 0
        except OSError:
            return False

    def misfit(self, version: Version) -> str | None:
        """Why the version cannot be served, None when it can, as far as its headers tell."""
        try:
            self._inspect(self.path(version))
        except OSError:
            return GONE
        except AdapterRefused as refused:
            return f"it does not fit {self._base.name}: {refused}"
        return None if self.is_intact(version) else GONE

    def check(self, version: Version) -> str | None:
        """The same for what is to be given to the engine: it is read whole, since its content must be what its name says."""
        try:
            if _digest(self.path(version)) != version.version:
                return "its files have been changed"
        except OSError:
            return GONE
        return self.misfit(version)

    def put(self, name: str, fill: Callable[[Path], None], source: str) -> tuple[Version, bool]:
        """Take in a version and say whether it is new; the same content twice is one version.

        Args:
            name: of the adapter, checked by the caller.
            fill: writes config and weights into the folder that it is given; nothing it wrote stays when it or a check raises.
            source: told in the manifest.

        Raises:
            AdapterRefused: it is not an adapter for the base model.

        """
        with self._staging() as folder:
            fill(folder)
            self._step("received")
            version = self._finish(folder, name, source)
            self._step("written")
            place = self.path(version)
            place.parent.mkdir(exist_ok=True)
            self._step("placed")
            if place.exists():
                if self.check(version) is None and (there := self._read(place)) is not None:
                    return there, False
                self._discard(place)  # damaged: the same content comes to replace it
            folder.rename(place)
            self._step("renamed")
            _flush(place.parent, self._root)
        return version, True

    def _finish(self, folder: Path, name: str, source: str) -> Version:
        """Check what came, write what is served, and the manifest."""
        for file in (CONFIG_FILE, WEIGHTS_FILE):
            if not (folder / file).is_file():
                raise AdapterRefused(f"There is no {file}.", parameter=file)
        config = read_config(folder / CONFIG_FILE)
        (folder / CONFIG_FILE).write_bytes(config.normalised())
        weights = self._inspect(folder)
        check_numbers(folder / WEIGHTS_FILE, config.scale)
        version = Version(
            name=name,
            version=_digest(folder),
            rank=config.r,
            alpha=config.lora_alpha,
            use_rslora=config.use_rslora,
            target_modules=weights.modules,
            parameters=weights.parameters,
            dtype=weights.dtype,
            base_model=self._base.name,
            declared_base=config.declared_base,
            size=(folder / WEIGHTS_FILE).stat().st_size,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            source=source,
        )
        (folder / MANIFEST_FILE).write_text(version.model_dump_json(indent=2) + "\n", encoding="utf-8")
        _flush(*(folder / file for file in (CONFIG_FILE, WEIGHTS_FILE, MANIFEST_FILE)), folder)
        return version

    def _inspect(self, folder: Path) -> Weights:
        config = read_config(folder / CONFIG_FILE)
        if config.r > self._max_rank:
            raise AdapterRefused(
                f"{CONFIG_FILE}: `r`: rank {config.r} is above {self._max_rank}, the highest that this server has room for.",
                parameter=f"{CONFIG_FILE}:r",
            )
        return read_weights(folder / WEIGHTS_FILE, config, self._base)

    def set_current(self, name: str, version: Version | None) -> None:
        """What the name stands for from now on; None for nothing."""
        pointer = self._root / name / CURRENT_FILE
        if version is None:
            pointer.unlink(missing_ok=True)
            self._step("unset")
        else:
            with self._staging() as folder:
                (folder / CURRENT_FILE).write_text(version.version, encoding="ascii")
                _flush(folder / CURRENT_FILE)
                self._step("pointed")
                (folder / CURRENT_FILE).rename(pointer)
                self._step("set")
        _flush(pointer.parent)

    def remove(self, name: str, version: Version | None = None) -> None:
        """Remove one version, or all that there is under a name. Nothing of it is found again after the first step."""
        place = self._root / name if version is None else self.path(version)
        with suppress(FileNotFoundError):
            self._discard(place)
        if version is not None:
            with suppress(OSError):
                place.parent.rmdir()

    def _discard(self, place: Path) -> None:
        with self._staging() as folder:
            place.rename(folder / "discarded")
            self._step("discarded")
            _flush(place.parent)

    @contextmanager
    def _staging(self) -> Iterator[Path]:
        """A folder of this process's own, gone at the end. Its lock tells other processes that somebody still works in it."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        outer = Path(tempfile.mkdtemp(dir=self._incoming))
        descriptor = os.open(outer, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            inner = outer / "version"
            inner.mkdir()
            self._step("staged")
            yield inner
        finally:
            shutil.rmtree(outer, ignore_errors=True)
            os.close(descriptor)

    def _read(self, folder: Path) -> Version | None:
        """The manifest of a version, None where there is none that fits its place."""
        try:
            version = Version.model_validate_json((folder / MANIFEST_FILE).read_bytes())
        except (OSError, ValidationError):
            return None
        return version if (version.name, version.version) == (folder.parent.name, folder.name) else None


def _is_held(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _digest(folder: Path) -> str:
    """SHA-256 over the config, its length first, and the weights."""
    config = (folder / CONFIG_FILE).read_bytes()
    digest = hashlib.sha256(len(config).to_bytes(8, "little") + config)
    with (folder / WEIGHTS_FILE).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _flush(*paths: Path) -> None:
    """To disk: a power cut must not leave a complete name on incomplete files."""
    for path in paths:
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
