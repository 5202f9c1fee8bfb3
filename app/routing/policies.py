"""The policies of one server: those that come with it and those that were uploaded, numbered so that one can roll back.

<root>/<name>/0001.json …    uploaded policies, which never change
<root>/<name>/current        the number of the active policy; empty if no policy is active, not even the shipped one
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
MAX_KEPT = 100
"""The number of uploaded policies that are kept for one name. The oldest are deleted first."""


@dataclass(slots=True)
class PolicyHistory:
    """All policies of one model or adapter.

    Attributes:
        shipped: the policy that came with the server; its number is 0.
        numbers: the numbers of the uploaded policies, rising.
        current: the number of the active policy, None where none is active.
        policy: the active policy.

    """

    shipped: PolicyFile | None = None
    numbers: list[int] = field(default_factory=list)
    current: int | None = None
    policy: CalibratedPolicy | None = None

    def activate(self, number: int | None, file: PolicyFile | None) -> None:
        """Make a policy the active one; None for both activates none."""
        self.current, self.policy = number, None if file is None else CalibratedPolicy(file)


class Policies:
    """Policies by the name of the model or adapter that they are for.

    The files are small, so they are read and written in place, without a thread.

    Args:
        root: folder of the uploaded policies. It is made when something is written.
        shipped: folder of the policies that come with the server, one JSON file each.

    """

    def __init__(self, root: Path, shipped: Path | None = None) -> None:
        self._root = root
        self._histories: dict[str, PolicyHistory] = {}
        for path in sorted(shipped.glob("*.json")) if shipped is not None and shipped.is_dir() else ():
            file = read_policy(path)
            self._histories[path.stem] = PolicyHistory(file, [], 0, CalibratedPolicy(file))
        for folder in sorted(root.iterdir()) if root.is_dir() else ():
            if folder.is_dir():
                self._load(folder)

    def _load(self, folder: Path) -> None:
        """Read the history of one name from disk. A policy that cannot be read is left out with a warning."""
        history = self._histories.setdefault(folder.name, PolicyHistory())
        history.numbers = sorted(int(path.stem) for path in folder.glob("*.json") if path.stem.isdigit())
        with suppress(OSError, ValueError):
            current = (folder / CURRENT).read_text(encoding="ascii").strip()
            number = int(current) if current else None
            try:
                history.activate(number, self._read(folder.name, history, number))
            except InvalidRequest as error:
                # the server starts all the same: requests are planned by the prior policy
                logger.warning("policy %s of %s is not used: %s", number, folder.name, error)
                history.activate(None, None)

    def _read(self, name: str, history: PolicyHistory, number: int | None) -> PolicyFile | None:
        if number is None:
            return None
        return history.shipped if number == 0 else read_policy(self._path(name, number))

    def _path(self, name: str, number: int) -> Path:
        return self._root / name / f"{number:04}.json"

    def names(self) -> list[str]:
        """Return the names that have a history, sorted."""
        return sorted(self._histories)

    def history(self, name: str) -> PolicyHistory:
        """Return the history of a name; raises `NotFound` where there is none."""
        if name not in self._histories:
            raise NotFound(f"There is no policy for `{name[:200]}`.", parameter="model")
        return self._histories[name]

    def find(self, name: str) -> CalibratedPolicy | None:
        """Return the active policy of a name, or None."""
        history = self._histories.get(name)
        return None if history is None else history.policy

    def put(self, name: str, file: PolicyFile) -> int:
        """Write a policy, make it the active one, and return its number."""
        history = self._histories.setdefault(name, PolicyHistory())
        number = (history.numbers[-1] if history.numbers else 0) + 1
        (self._root / name).mkdir(parents=True, exist_ok=True)
        write_whole(self._path(name, number), file.model_dump_json())
        history.numbers.append(number)
        self.choose(name, number)
        inactive = [one for one in history.numbers if one != history.current]
        for old in inactive[: max(len(history.numbers) - MAX_KEPT, 0)]:
            self._path(name, old).unlink(missing_ok=True)
            history.numbers.remove(old)
        return number

    def choose(self, name: str, number: int | None) -> None:
        """Make another policy the active one: an earlier number, 0 for the shipped one, None for none.

        Raises `NotFound` for an unknown number, and `InvalidRequest` for a file that is broken on disk. Then nothing changes.
        """
        history = self.history(name)
        if number is not None and number not in history.numbers and not (number == 0 and history.shipped is not None):
            raise NotFound(f"`{name}` has no policy {number}.", parameter="number")
        file = self._read(name, history, number)
        (self._root / name).mkdir(parents=True, exist_ok=True)
        write_whole(self._root / name / CURRENT, "" if number is None else str(number))
        history.activate(number, file)


def read_policy(path: Path) -> PolicyFile:
    """Read a policy file; raises `InvalidRequest` with the first thing that is wrong with it."""
    try:
        return parse_policy(path.read_bytes())
    except OSError as error:
        raise InvalidRequest(f"{path.name} cannot be read: {error.strerror}") from error


def parse_policy(content: bytes) -> PolicyFile:
    """Parse the bytes of a policy file; raises `InvalidRequest` with the first thing that is wrong with them."""
    try:
        return PolicyFile.model_validate_json(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "policy"
        raise InvalidRequest(f"The policy is broken at `{where}`: {fault['msg']}", parameter=where) from error
