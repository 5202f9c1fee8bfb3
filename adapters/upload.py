"""Copies an adapter's files from an upload, an archive or a folder. At most four files are written, with fixed names.

Each public function returns a `WriteFiles` for `AdapterStore.put`, which calls it in a thread. Archives are read entry
by entry. Names are only compared, never used as paths, and sizes are counted while copying, since the sizes that an
archive states may be wrong on purpose.
"""

import os
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from adapters.chat_template import CHAT_TEMPLATE_FILE, MAX_CHAT_TEMPLATE_BYTES
from adapters.config import CONFIG_FILE, MAX_CONFIG_BYTES
from adapters.errors import AdapterRefused
from adapters.verifier_prompt import MAX_PONDER_CONFIG_BYTES, PONDER_CONFIG_FILE
from adapters.weights import WEIGHTS_FILE

WriteFiles = Callable[[Path], None]
"""Writes an adapter's files into a folder; raises `AdapterRefused`."""

_SMALL = {CONFIG_FILE: MAX_CONFIG_BYTES, PONDER_CONFIG_FILE: MAX_PONDER_CONFIG_BYTES}
"""JSON file -> the most bytes that it may have. The limit of the weights is a setting of the server."""

MAX_ENTRIES = 64
"""The most files in one upload or archive. A folder that peft has saved has about ten."""

MAX_DIRECTORY_BYTES = 262_144
"""The most bytes of a zip's own list of its files."""

_COMPANIONS = re.compile(
    r"README\.md|\.gitattributes|LICENSE|(?:tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)\.json|merges\.txt"
    r"|chat_template\.jinja"
)
"""Files that peft and transformers save beside an adapter. They are accepted but not copied."""

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz")
"""Endings of files that execute code when they are loaded, or may."""


def from_files(files: Iterable[tuple[str, BinaryIO]], max_bytes: int) -> WriteFiles:
    """Copy uploaded files, given as (name, content). Folders in their names are ignored."""

    def write_files(folder: Path) -> None:
        for number, (name, file) in enumerate(files):
            # Counted while they come: an upload may have any number of empty files.
            if number >= MAX_ENTRIES:
                raise AdapterRefused(f"There are more than {MAX_ENTRIES} files.", parameter="files")
            _copy_known(name, file, folder, max_bytes, "files")

    return write_files


def from_archive(file: BinaryIO, max_bytes: int) -> WriteFiles:
    """Copy the files of a zip, which has them at its top or in one folder."""

    def write_files(folder: Path) -> None:
        try:
            _check_directory(file)
            with zipfile.ZipFile(file) as archive:
                entries = [entry for entry in archive.infolist() if not entry.is_dir()]
                if len(entries) > MAX_ENTRIES:
                    raise _refused_archive(f"it has more than {MAX_ENTRIES} files")
                for entry in entries:
                    _check_entry(entry)
                    with archive.open(entry) as content:
                        _copy_known(entry.filename, content, folder, max_bytes, "archive")  # type: ignore[arg-type] # reads as one
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError, OSError) as error:
            raise _refused_archive(f"it is not a readable zip file ({error})") from error

    return write_files


def _check_directory(file: BinaryIO) -> None:
    """Refuse a list of entries that is too long, before `ZipFile` reads all of it into memory."""
    end = zipfile._EndRecData(file)  # type: ignore[attr-defined] # what ZipFile itself goes by
    if end and end[zipfile._ECD_SIZE] > MAX_DIRECTORY_BYTES:  # type: ignore[attr-defined]
        raise _refused_archive("it has too many files")


def _check_entry(entry: zipfile.ZipInfo) -> None:
    path = PurePosixPath(entry.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.filename or ":" in entry.filename:
        raise _refused_archive(f"`{entry.filename[:200]}` leads out of it")
    if len(path.parts) > 2:
        raise _refused_archive(f"`{entry.filename[:200]}` is nested deeper than one folder")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise _refused_archive(f"`{entry.filename[:200]}` is a link or a special file")
    if entry.flag_bits & 1:
        raise _refused_archive(f"`{entry.filename[:200]}` is encrypted")


def from_folder(import_root: Path, path: str, max_bytes: int) -> WriteFiles:
    """Copy the files of a folder beneath `import_root`.

    The client names the folder, by a relative or absolute path. No part of the path below the root may be a link.
    """

    def write_files(into: Path) -> None:
        root = import_root.expanduser().resolve()
        if "\0" in path:  # the system's calls would end the path there
            raise _refused_path("it holds a null character")
        # By text alone, without a look at the disk: links are refused when the parts are opened.
        folder = Path(os.path.normpath(root / path))
        if folder == root or root not in folder.parents:
            raise _refused_path("it leads out of the import folder")
        _copy_folder(root, folder, into, max_bytes)

    return write_files


def from_operator_folder(folder: Path, max_bytes: int) -> WriteFiles:
    """Copy the files of a folder that the operator names, which may lie anywhere.

    Its files are checked like those of a client. It alone may have a chat template: see `adapters.chat_template`.
    """

    def write_files(into: Path) -> None:
        place = folder.resolve()  # the operator may use links
        _copy_folder(place.parent, place, into, max_bytes, has_template=True)

    return write_files


def _copy_folder(root: Path, folder: Path, into: Path, max_bytes: int, *, has_template: bool = False) -> None:
    """Open each part of the path without following links, and copy the files.

    So nobody can replace a part of the path between the check and the copy. A chat template is copied if `has_template`.
    """
    optional = {PONDER_CONFIG_FILE, CHAT_TEMPLATE_FILE} if has_template else {PONDER_CONFIG_FILE}
    descriptors = [os.open(root, os.O_RDONLY | os.O_DIRECTORY)]
    try:
        for part in folder.relative_to(root).parts:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            descriptors.append(os.open(part, flags, dir_fd=descriptors[-1]))
        names = set(os.listdir(descriptors[-1]))  # noqa: PTH208 - a descriptor, not a path
        if WEIGHTS_FILE not in names and (pickles := sorted(name for name in names if name.endswith(_PICKLES))):
            raise AdapterRefused(_is_pickle(pickles[0]), parameter="path")
        for name in (CONFIG_FILE, WEIGHTS_FILE, *sorted(names & optional)):
            if name not in names:
                raise AdapterRefused(f"There is no {name} in the folder.", parameter="path")
            # Non-blocking: to open a named pipe would block the thread for ever.
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=descriptors[-1])
            with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise _refused_path(f"its {name} is not a regular file")
                if name == CHAT_TEMPLATE_FILE:
                    _copy(file, into / name, MAX_CHAT_TEMPLATE_BYTES, "path")
                else:
                    _copy_known(name, file, into, max_bytes, "path")
    except (OSError, ValueError) as error:
        raise _refused_path("there is no such folder, it is not readable, or a link is in the way") from error
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _copy_known(name: str, file: BinaryIO, into: Path, max_bytes: int, parameter: str) -> None:
    """Copy one of the three files, skip a file that usually lies beside an adapter, and refuse any other."""
    base = PurePosixPath(name).name
    if base == WEIGHTS_FILE or base in _SMALL:
        if (into / base).exists():
            raise AdapterRefused(f"There are two files named {base}.", parameter=parameter)
        _copy(file, into / base, _SMALL.get(base, max_bytes), parameter)
    elif base.endswith(_PICKLES):
        raise AdapterRefused(_is_pickle(base), parameter=parameter)
    elif not _COMPANIONS.fullmatch(base):
        raise AdapterRefused(f"`{base[:200]}` does not belong to an adapter.", parameter=parameter)


def _copy(source: BinaryIO, target: Path, max_bytes: int, parameter: str) -> None:
    left = max_bytes  # by count: stated sizes are not trusted
    with target.open("xb") as out:
        while block := source.read(min(1 << 20, left + 1)):
            left -= len(block)
            if left < 0:
                raise AdapterRefused(f"{target.name} is larger than {max_bytes} bytes.", parameter=parameter)
            out.write(block)


def _is_pickle(name: str) -> str:
    return f"`{name[:200]}` may hold code: only safetensors weights are accepted."


def _refused_archive(why: str) -> AdapterRefused:
    return AdapterRefused(f"The archive is refused: {why}.", parameter="archive")


def _refused_path(why: str) -> AdapterRefused:
    return AdapterRefused(f"The path is refused: {why}.", parameter="path")
