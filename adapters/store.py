"""Adapter versions on disk: immutable, named by the hash of their content, and there as a whole or not at all.

    <root>/<name>/<sha256>/          adapter_config.json, adapter_model.safetensors, manifest.json, maybe ponder.json
                                     and chat_template.jinja
    <root>/<name>/current            the hash of the version that the name stands for
    <root>/.incoming/<random>/       files that are being written or deleted

Everything is made in `.incoming`, flushed to disk, and put in its place by one rename. So a process that is killed at
any moment leaves either the old state or the new one, and incomplete files only in `.incoming`, which the next start
clears. All methods block: call them from a thread.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from adapters.chat_template import CHAT_TEMPLATE_FILE
from adapters.config import CONFIG_FILE
from adapters.content import digest, read_content
from adapters.disk import clear, flush, put_in_place, staging
from adapters.errors import AdapterFailed, AdapterRefused
from adapters.object_store import ObjectStore, ObjectStoreFailed
from adapters.upload import WriteFiles
from adapters.verifier_prompt import PONDER_CONFIG_FILE
from adapters.version import MANIFEST_FILE, AdapterVersion, StoredAdapter
from adapters.weights import WEIGHTS_FILE, BaseModel, check_numbers

CURRENT_FILE = "current"
logger = logging.getLogger("ponder.adapters")

INCOMING = ".incoming"  # no adapter has this name: names do not begin with a dot
GONE = "its files are gone"
CHANGED = "its files have been changed"


class AdapterStore:
    """The folder of all adapters.

    Args:
        root: the folder; it is made when it does not exist.
        base: the base model that versions must fit.
        max_rank: the highest rank that the engine has room for.
        objects: where other machines find the versions, and this one those of others; None for nowhere.
        on_step: called after each step that changes the disk, with the step's name; tests kill the process there.

    """

    def __init__(
        self,
        root: Path,
        base: BaseModel,
        *,
        max_rank: int,
        objects: ObjectStore | None = None,
        on_step: Callable[[str], None] = lambda _step: None,
    ) -> None:
        self._objects = objects
        self._root = root
        self._base = base
        self._max_rank = max_rank
        self._step = on_step
        self._incoming = root / INCOMING

    def scan(self) -> list[StoredAdapter]:
        """Remove what killed processes left in `.incoming`, and return all stored adapters, sorted by name."""
        clear(self._incoming)
        found = []
        for folder in sorted(self._root.iterdir()):
            if folder.name.startswith(".") or not folder.is_dir():
                continue
            versions = tuple(filter(None, (self._read(path) for path in sorted(folder.iterdir()))))
            if not versions:
                with suppress(OSError):  # files that we do not know are not ours to remove
                    folder.rmdir()
                continue
            current = _text(folder / CURRENT_FILE)
            # The version that it names may be damaged, or removed by hand.
            is_known = any(version.version == current for version in versions)
            found.append(StoredAdapter(folder.name, versions, current if is_known else None))
        return found

    def find(self, name: str, version: str) -> AdapterVersion | None:
        """Return a version that another server may have stored, by its hash; None where it is not there as a whole."""
        return self._read(self.folder(name) / version) or self._fetch(name, version)

    def _fetch(self, name: str, version: str) -> AdapterVersion | None:
        """Return a version that was only in the object store until now."""
        if self._objects is None:
            return None
        place = self.folder(name) / version
        try:
            with self._staging() as folder:
                if not self._objects.fetch(f"{name}:{version}", folder):
                    return None
                if place.is_dir() and self._read(place) is None:
                    self._discard(place)  # its manifest is damaged
                place.parent.mkdir(exist_ok=True)
                put_in_place(folder, place)
                flush(place.parent, self._root)
        except OSError as error:  # the next call tries it again
            logger.warning("adapter %s: %s", name, error)
            return None
        return self._read(place)

    def publish(self, version: AdapterVersion) -> None:
        """Write a version where other machines find it, if it is not there. Raises `AdapterFailed`."""
        self._publish(version, self.path(version))

    def _publish(self, version: AdapterVersion, folder: Path) -> None:
        if self._objects is not None:
            try:
                self._objects.put(version.key, folder)
            except OSError as error:
                logger.error("adapter %s: %s", version.id, error)  # noqa: TRY400 - the message says all
                raise AdapterFailed("It cannot be written to the store from which replicas read adapters.") from error

    def folder(self, name: str) -> Path:
        """Return the folder of all versions of a name."""
        return self._root / name

    def path(self, version: AdapterVersion) -> Path:
        """Return the folder of the version."""
        return self._root / version.name / version.version

    def is_intact(self, version: AdapterVersion) -> bool:
        """Return whether the files of the version are there, by their sizes alone: this is called every second."""
        small = [CONFIG_FILE]
        small += [PONDER_CONFIG_FILE] if version.verifier_prompt is not None else []
        small += [CHAT_TEMPLATE_FILE] if version.chat_template is not None else []
        try:
            weights = (self.path(version) / WEIGHTS_FILE).stat()
            return weights.st_size == version.size and all((self.path(version) / file).stat().st_size > 0 for file in small)
        except OSError:
            return False

    def misfit(self, version: AdapterVersion) -> str | None:
        """Return why the version cannot be served, None when it can. Of the weights only the headers are read."""
        try:
            content = read_content(self.path(version), self._base, self._max_rank)
        except OSError:
            return GONE
        except AdapterRefused as refused:
            return f"it does not fit {self._base.name}: {refused}"
        if not self.is_intact(version):
            return GONE
        # Requests are served by the manifest, which is not covered by the hash: it must say what the file says.
        said = (content.verifier_prompt, content.chat_template)
        return None if said == (version.verifier_prompt, version.chat_template) else CHANGED

    def check(self, version: AdapterVersion) -> str | None:
        """Return what `misfit` does, after all files are read and hashed.

        Before the engine loads a version, its content must have the hash that names it.
        """
        try:
            has_ponder_config, has_chat_template = version.verifier_prompt is not None, version.chat_template is not None
            found = digest(self.path(version), has_ponder_config=has_ponder_config, has_chat_template=has_chat_template)
            if found != version.version:
                return CHANGED
        except OSError:
            return GONE
        return self.misfit(version)

    def put(self, name: str, write_files: WriteFiles, source: str) -> tuple[AdapterVersion, bool]:
        """Store a version. The same content twice is one version.

        Args:
            name: of the adapter, checked by the caller.
            write_files: writes the files into the folder that it is given. When it or a check raises, all of them are
                removed.
            source: where they come from, for the manifest.

        Returns:
            The version, and whether it is new.

        Raises:
            AdapterRefused: it is not an adapter for the base model, or cannot be written where other machines find it.

        """
        with self._staging() as folder:
            write_files(folder)
            self._step("received")
            version = self._finish(folder, name, source)
            self._step("written")
            self._publish(version, folder)
            place = self.path(version)
            place.parent.mkdir(exist_ok=True)  # an empty folder that a kill leaves here is removed by `scan`
            self._step("placed")
            if place.exists():
                if self.check(version) is None and (known := self._read(place)) is not None:
                    return known, False
                self._discard(place)  # its files are damaged, and this content replaces them
            put_in_place(folder, place)
            self._step("renamed")
            flush(place.parent, self._root)  # a rename survives a power cut once the folders are flushed
        return version, True

    def _finish(self, folder: Path, name: str, source: str) -> AdapterVersion:
        """Check the files, write those that are served and the manifest, and flush all of them."""
        for file in (CONFIG_FILE, WEIGHTS_FILE):
            if not (folder / file).is_file():
                raise AdapterRefused(f"There is no {file}.", parameter=file)
        content = read_content(folder, self._base, self._max_rank)
        # All numbers are read only here: later, the hash says that they are still the same.
        check_numbers(folder / WEIGHTS_FILE, content.config.scale)
        content.write(folder)
        version = AdapterVersion(
            name=name,
            version=digest(
                folder,
                has_ponder_config=content.ponder_config is not None,
                has_chat_template=content.chat_template is not None,
            ),
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
            verifier_prompt=content.verifier_prompt,
            chat_template=content.chat_template,
        )
        (folder / MANIFEST_FILE).write_text(version.model_dump_json(indent=2) + "\n", encoding="utf-8")
        flush(
            *(folder / file for file in (CONFIG_FILE, WEIGHTS_FILE, PONDER_CONFIG_FILE, CHAT_TEMPLATE_FILE, MANIFEST_FILE)),
            folder,
        )
        return version

    def set_current(self, name: str, version: AdapterVersion | None) -> None:
        """Let the name stand for this version from now on, or for none."""
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

    def remove(self, name: str, version: AdapterVersion | None = None, *, is_last: bool = False) -> None:
        """Remove one version, or all versions of a name.

        After a kill in between, they are there as a whole or not at all. `is_last` tells that the name is not to stand
        for anything any more, so that its folder can go with its last version.
        """
        if is_last:
            (self._root / name / CURRENT_FILE).unlink(missing_ok=True)
        place = self._root / name if version is None else self.path(version)
        with suppress(FileNotFoundError):
            self._discard(place)
        if self._objects is not None:
            with suppress(ObjectStoreFailed):  # it stays there, and nothing names it
                self._objects.remove(name if version is None else version.key)
        if version is not None:
            with suppress(OSError):  # other versions are in it
                place.parent.rmdir()

    def _discard(self, place: Path) -> None:
        """Delete a folder: it is renamed first, since a deletion file by file could be interrupted."""
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
        """Return the manifest in a version's folder, None where there is none, or one that belongs elsewhere."""
        try:
            version = AdapterVersion.model_validate_json((folder / MANIFEST_FILE).read_bytes())
        except (OSError, ValidationError):
            return None
        # A folder that somebody has copied or renamed is no version: requests would be served under a wrong hash.
        return version if (version.name, version.version) == (folder.parent.name, folder.name) else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
