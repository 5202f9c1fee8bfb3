"""The policies of one server: those that come with it, and those that were given to it, kept by number for a roll-back.

<root>/<name>/0001.json …    as they were given, never changed
<root>/<name>/current        the number that holds; "" where none shall, not even one that comes with the server
"""

import logging
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from adapters.disk import write_whole
from app.errors import InvalidRequest, NotFound
from app.routing.calibrated import CalibratedPolicy
from app.routing.policy_file import PolicyFile

logger = logging.getLogger("ponder.policies")

CURRENT = "current"
MOST_KEPT = 100
"""Policies of one name; the oldest make room."""


@dataclass(slots=True)
class Shelf:
    """What is known under one name.

    Attributes:
        shipped: came with the server; number 0.
        numbers: of those that were given, rising.
        current: the number that holds, None for none.

    """

    shipped: PolicyFile | None = None
    numbers: list[int] = field(default_factory=list)
    current: int | None = None
    policy: CalibratedPolicy | None = None


class Policies:
    """Policies by the name of the model or adapter that they are for. Small files: read and written in place.

    Args:
        root: made when something is written.
        shipped: folder of those that come with the server, one JSON file each.

    """

    def __init__(self, root: Path, shipped: Path | None = None) -> None:
        self._root = root
        self._shelves: dict[str, Shelf] = {}
        for path in sorted(shipped.glob("*.json")) if shipped is not None and shipped.is_dir() else ():
            file = read_policy(path)
            self._shelves[path.stem] = Shelf(file, [], 0, CalibratedPolicy(file))
        for folder in sorted(root.iterdir()) if root.is_dir() else ():
            if folder.is_dir():
                self._read(folder)

    def _read(self, folder: Path) -> None:
        shelf = self._shelves.setdefault(folder.name, Shelf())
        shelf.numbers = sorted(int(path.stem) for path in folder.glob("*.json") if path.stem.isdigit())
        with suppress(OSError, ValueError):
            said = (folder / CURRENT).read_text(encoding="ascii").strip()
            self._hold(folder.name, shelf, int(said) if said else None)

    def _hold(self, name: str, shelf: Shelf, number: int | None) -> None:
        try:
            file = self._file(name, shelf, number)
        except InvalidRequest as error:
            logger.warning("policy %s of %s is not used: %s", number, name, error)
            file, number = None, None
        shelf.policy, shelf.current = (None if file is None else CalibratedPolicy(file)), number

    def _file(self, name: str, shelf: Shelf, number: int | None) -> PolicyFile | None:
        if number is None or number == 0:
            return None if number is None else shelf.shipped
        return read_policy(self._path(name, number))

    def _path(self, name: str, number: int) -> Path:
        return self._root / name / f"{number:04}.json"

    def names(self) -> list[str]:
        """All for which something is known."""
        return sorted(self._shelves)

    def shelf(self, name: str) -> Shelf:
        """Raises `NotFound`."""
        if name not in self._shelves:
            raise NotFound(f"There is no policy for `{name[:200]}`.", parameter="model")
        return self._shelves[name]

    def find(self, name: str) -> CalibratedPolicy | None:
        """The one that holds."""
        shelf = self._shelves.get(name)
        return None if shelf is None else shelf.policy

    def put(self, name: str, file: PolicyFile) -> int:
        """Keep it and let it hold from now on; its number."""
        shelf = self._shelves.setdefault(name, Shelf())
        number = (shelf.numbers[-1] if shelf.numbers else 0) + 1
        (self._root / name).mkdir(parents=True, exist_ok=True)
        write_whole(self._path(name, number), file.model_dump_json())
        shelf.numbers.append(number)
        self.choose(name, number)
        for old in [one for one in shelf.numbers if one != shelf.current][: max(len(shelf.numbers) - MOST_KEPT, 0)]:
            self._path(name, old).unlink(missing_ok=True)
            shelf.numbers.remove(old)
        return number

    def choose(self, name: str, number: int | None) -> None:
        """Let another one hold: an earlier number, 0 for the one that comes with the server, None for none.

        Raises `NotFound`, and `InvalidRequest` for one that is broken on disk: what holds stays.
        """
        shelf = self.shelf(name)
        if number is not None and number not in shelf.numbers and not (number == 0 and shelf.shipped is not None):
            raise NotFound(f"`{name}` has no policy {number}.", parameter="number")
        file = self._file(name, shelf, number)
        (self._root / name).mkdir(parents=True, exist_ok=True)
        write_whole(self._root / name / CURRENT, "" if number is None else str(number))
        shelf.policy, shelf.current = (None if file is None else CalibratedPolicy(file)), number


def read_policy(path: Path) -> PolicyFile:
    """Raises `InvalidRequest` with the first thing that is wrong with it."""
    try:
        return parse_policy(path.read_bytes())
    except OSError as error:
        raise InvalidRequest(f"{path.name} cannot be read: {error.strerror}") from error


def parse_policy(content: bytes) -> PolicyFile:
    """The same for what was sent."""
    try:
        return PolicyFile.model_validate_json(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "policy"
        raise InvalidRequest(f"The policy is broken at `{where}`: {fault['msg']}", parameter=where) from error
