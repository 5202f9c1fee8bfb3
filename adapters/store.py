"""Adapter versions on disk: immutable, named by their content, there as a whole or not at all.

    <root>/<name>/<sha256>/{adapter_config.json, adapter_model.safetensors, manifest.json}, and ponder.json where it came with one
    <root>/<name>/current            the version that the name stands for
    <root>/.incoming/<random>/       what is being written or thrown away

Everything is made in `.incoming`, flushed, and put in its place by one rename, so that a process killed at any moment leaves either
the old state or the new one, and rubbish only where the next start clears it. Blocking: call it from a thread. Knows no engine.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from adapters.config import CONFIG_FILE
from adapters.content import digest, read_content
from adapters.disk import clear, flush, staging
from adapters.errors import AdapterRefused
from adapters.verifier_prompt import NOTES_FILE
from adapters.version import AdapterVersion, Shelf
from adapters.weights import WEIGHTS_FILE, BaseModel, check_numbers

MANIFEST_FILE = "manifest.json"
CURRENT_FILE = "current"
INCOMING = ".incoming"
GONE = "its files are gone"
CHANGED = "its files have been changed"


class AdapterStore:
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
        clear(self._incoming)
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

    def path(self, version: AdapterVersion) -> Path:
        """Where its files are."""
        return self._root / version.name / version.version

    def is_intact(self, version: AdapterVersion) -> bool:
        """Whether its files are there, by their sizes."""
        small = (CONFIG_FILE,) if version.inquiry is None else (CONFIG_FILE, NOTES_FILE)
        try:
            weights = (self.path(version) / WEIGHTS_FILE).stat()
            return weights.st_size == version.size and all((self.path(version) / file).stat().st_size > 0 for file in small)
        except OSError:
            return False

    def misfit(self, version: AdapterVersion) -> str | None:
        """Why the version cannot be served, None when it can, as far as its headers tell."""
        try:
            content = read_content(self.path(version), self._base, self._max_rank)
        except OSError:
            return GONE
        except AdapterRefused as refused:
            return f"it does not fit {self._base.name}: {refused}"
        if not self.is_intact(version):
            return GONE
        # The manifest, which is what requests are served by, is not in the hash.
        return None if content.inquiry == version.inquiry else CHANGED

    def check(self, version: AdapterVersion) -> str | None:
        """The same for what is to be given to the engine: it is read whole, since its content must be what its name says."""
        try:
            if digest(self.path(version), has_notes=version.inquiry is not None) != version.version:
                return CHANGED
        except OSError:
            return GONE
        return self.misfit(version)

    def put(self, name: str, fill: Callable[[Path], None], source: str) -> tuple[AdapterVersion, bool]:
        """Take in a version and say whether it is new; the same content twice is one version.

        Args:
            name: of the adapter, checked by the caller.
            fill: writes the files into the folder that it is given; nothing it wrote stays when it or a check raises.
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
            flush(place.parent, self._root)
        return version, True

    def _finish(self, folder: Path, name: str, source: str) -> AdapterVersion:
        """Check what came, write what is served, and the manifest."""
        for file in (CONFIG_FILE, WEIGHTS_FILE):
            if not (folder / file).is_file():
                raise AdapterRefused(f"There is no {file}.", parameter=file)
        content = read_content(folder, self._base, self._max_rank)
        check_numbers(folder / WEIGHTS_FILE, content.config.scale)
        content.write(folder)
        version = AdapterVersion(
            name=name,
            version=digest(folder, has_notes=content.notes is not None),
            rank=content.config.r,
            alpha=content.config.lora_alpha,
            use_rslora=content.config.use_rslora,
            target_modules=content.weights.modules,
            parameters=content.weights.parameters,
            dtype=content.weights.dtype,
            base_model=self._base.name,
            declared_base=content.config.declared_base,
            size=(folder / WEIGHTS_FILE).stat().st_size,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            source=source,
            inquiry=content.inquiry,
        )
        (folder / MANIFEST_FILE).write_text(version.model_dump_json(indent=2) + "\n", encoding="utf-8")
        flush(*(folder / file for file in (CONFIG_FILE, WEIGHTS_FILE, NOTES_FILE, MANIFEST_FILE)), folder)
        return version

    def set_current(self, name: str, version: AdapterVersion | None) -> None:
        """What the name stands for from now on; None for nothing."""
        pointer = self._root / name / CURRENT_FILE
        if version is None:
            pointer.unlink(missing_ok=True)
            self._step("unset")
        else:
            with self._staging() as folder:
                (folder / CURRENT_FILE).write_text(version.version, encoding="ascii")
                flush(folder / CURRENT_FILE)
                self._step("pointed")
                (folder / CURRENT_FILE).rename(pointer)
                self._step("set")
        flush(pointer.parent)

    def remove(self, name: str, version: AdapterVersion | None = None) -> None:
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
            flush(place.parent)

    @contextmanager
    def _staging(self) -> Iterator[Path]:
        with staging(self._incoming) as folder:
            self._step("staged")
            yield folder

    def _read(self, folder: Path) -> AdapterVersion | None:
        """The manifest of a version, None where there is none that fits its place."""
        try:
            version = AdapterVersion.model_validate_json((folder / MANIFEST_FILE).read_bytes())
        except (OSError, ValidationError):
            return None
        return version if (version.name, version.version) == (folder.parent.name, folder.name) else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
