"""The policies of one server: those that come with it and those that were uploaded, numbered so that one can roll back.

<root>/<name>/0001.json …    uploaded policies, which never change
<root>/<name>/current        the number of the active policy; empty if no policy is active, not even the shipped one
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from adapters.disk import write_whole
from app.errors import InvalidRequest, NotFound
from app.routing.calibrated import CalibratedPolicy
from app.routing.cascade_file import CASCADE, CascadeFile, parse_cascade
from app.routing.policy_file import PolicyFile, parse_file
from app.shared.policy_agreement import MAX_KEPT, AgreedPolicies, PolicyAgreement, hash_of

logger = logging.getLogger("ponder.policies")

CURRENT = "current"


@dataclass(slots=True)
class PolicyHistory:
    """All policies of one model or adapter.

    Attributes:
        shipped: the policy that came with the server; its number is 0.
        numbers: the numbers of the uploaded policies, rising.
        current: the number of the active policy, None where none is active.
        policy: the active policy; None for `auto`.
        cascade: the active cascade, of the name `auto` alone.

    """

    shipped: PolicyFile | None = None
    numbers: list[int] = field(default_factory=list)
    current: int | None = None
    policy: CalibratedPolicy | None = None
    cascade: CascadeFile | None = None

    @property
    def file(self) -> PolicyFile | CascadeFile | None:
        """The active one as it was put."""
        return self.cascade if self.policy is None else self.policy.file

    def activate(self, number: int | None, file: PolicyFile | CascadeFile | None) -> None:
        """Make a policy the active one; None for both activates none."""
        self.current = number
        self.policy = CalibratedPolicy(file) if isinstance(file, PolicyFile) else None
        self.cascade = file if isinstance(file, CascadeFile) else None


class Policies:
    """Policies by the name of the model or adapter that they are for.

    The files are small, so they are read and written in place, without a thread.

    Args:
        root: folder of the uploaded policies. It is made when something is written.
        shipped: folder of the policies that come with the server, one JSON file each.
        agreement: with the other front ends.

    Attributes:
        on_choice: is called with the name whose policy somebody has put or chosen.

    """

    def __init__(self, root: Path, shipped: Path | None = None, agreement: PolicyAgreement | None = None) -> None:
        self._root = root
        self._agreement = PolicyAgreement() if agreement is None else agreement
        self.on_choice: Callable[[str], None] = lambda _name: None
        self._followed: dict[str, AgreedPolicies] = {}
        self._refused: dict[str, AgreedPolicies] = {}
        self._changing = asyncio.Lock()
        self._histories: dict[str, PolicyHistory] = {}
        for path in sorted(shipped.glob("*.json")) if shipped is not None and shipped.is_dir() else ():
            file = read_policy(path)
            self._histories[path.stem] = PolicyHistory(file, [], 0, CalibratedPolicy(file))
        for folder in sorted(root.iterdir()) if root.is_dir() else ():
            if folder.is_dir() and not folder.name.startswith("."):
                self._load(folder)
        self._agreement.offer(self._on_disk, self._text)

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
                # the server starts all the same: requests are planned by the general estimator
                logger.warning("policy %s of %s is not used: %s", number, folder.name, error)
                history.activate(None, None)

    def _read(self, name: str, history: PolicyHistory, number: int | None) -> PolicyFile | CascadeFile | None:
        if number is None:
            return None
        if number == 0:
            return history.shipped
        return read_cascade(self._path(name, number)) if name == CASCADE else read_policy(self._path(name, number))

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

    @property
    def cascade(self) -> CascadeFile | None:
        """The active cascade, or None."""
        history = self._histories.get(CASCADE)
        return None if history is None else history.cascade

    async def put(self, name: str, file: PolicyFile | CascadeFile) -> int:
        """Write a policy, make it the active one at all front ends, and return its number.

        Raises:
            Conflict: another front end has changed the policies of this name meanwhile.
            SharedStateLost: the other front ends cannot be told.

        """
        async with self._changing:
            text = file.model_dump_json().encode()
            history = self._histories.get(name) or PolicyHistory()
            agreed = self._agreement.find(name)
            number = max([*history.numbers, *(agreed.texts if agreed else ())], default=0) + 1
            await self._agreement.add(name, number, text)
            self._histories[name] = history
            self._write(name, number, text)
            history.numbers.append(number)
            self._activate(name, number, file)
            self.on_choice(name)
            for old in history.numbers[: max(len(history.numbers) - MAX_KEPT, 0)]:
                self._path(name, old).unlink(missing_ok=True)
                history.numbers.remove(old)
        return number

    async def choose(self, name: str, number: int | None) -> None:
        """Make another policy the active one: an earlier number, 0 for the shipped one, None for none.

        Raises `NotFound` for an unknown number, `InvalidRequest` for a file that is broken on disk, and what `put` does. Then nothing
        changes.
        """
        async with self._changing:
            history = self.history(name)
            if number is not None and number not in history.numbers and not (number == 0 and history.shipped is not None):
                raise NotFound(f"`{name}` has no policy {number}.", parameter="number")
            file = self._read(name, history, number)
            await self._agreement.choose(name, number)
            self._activate(name, number, file)
            self.on_choice(name)

    def _write(self, name: str, number: int, text: bytes) -> None:
        (self._root / name).mkdir(parents=True, exist_ok=True)
        write_whole(self._path(name, number), text.decode())

    def _activate(self, name: str, number: int | None, file: PolicyFile | CascadeFile | None) -> None:
        (self._root / name).mkdir(parents=True, exist_ok=True)
        write_whole(self._root / name / CURRENT, "" if number is None else str(number))
        self._histories[name].activate(number, file)

    async def follow(self, name: str) -> None:
        """Bring the policies of a name to what all front ends have agreed on. Where that fails, the active one stays in use."""
        async with self._changing:
            agreed = self._agreement.find(name)
            if agreed is None or self._followed.get(name) == agreed:
                return
            history = self._histories.setdefault(name, PolicyHistory())
            for number in await asyncio.to_thread(self._missing, name, agreed):
                if (text := await self._agreement.fetch(name, agreed.texts[number])) is not None:
                    await asyncio.to_thread(self._write, name, number, text)
            for number in set(history.numbers) - set(agreed.texts):
                self._path(name, number).unlink(missing_ok=True)
            history.numbers = sorted(number for number in agreed.texts if self._path(name, number).exists())
            is_new = history.current != agreed.current
            try:
                self._activate(name, agreed.current, self._read(name, history, agreed.current))
            except InvalidRequest as error:
                if self._refused.get(name) != agreed:
                    message = "the policy %s of %s, which all front ends agreed on, is not used: %s"
                    logger.error(message, agreed.current, name, error)  # noqa: TRY400 - the message says all
                self._refused[name] = agreed
            else:
                self._followed[name] = agreed
                if is_new:
                    self.on_choice(name)

    def _missing(self, name: str, agreed: AgreedPolicies) -> list[int]:
        """Return the numbers whose texts are not on the disk."""
        return [number for number, digest in agreed.texts.items() if hash_of(self._text(name, number) or b"") != digest]

    def _text(self, name: str, number: int) -> bytes | None:
        try:
            return self._path(name, number).read_bytes()
        except OSError:
            return None

    def _on_disk(self) -> dict[str, AgreedPolicies]:
        """Return what this front end would have all agree on."""
        found = {}
        for name, history in self._histories.items():
            if (self._root / name).is_dir():
                texts = {number: hash_of(text) for number in history.numbers if (text := self._text(name, number)) is not None}
                current = history.current if history.current in (None, 0) or history.current in texts else None
                found[name] = AgreedPolicies(texts=texts, current=current)
        return found


def read_policy(path: Path) -> PolicyFile:
    """Read a policy file; raises `InvalidRequest` with the first thing that is wrong with it."""
    return parse_policy(_content(path))


def read_cascade(path: Path) -> CascadeFile:
    """Read a cascade file; raises `InvalidRequest` with the first thing that is wrong with it."""
    return parse_cascade(_content(path))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{path.name} cannot be read: {error.strerror}") from error


def parse_policy(content: bytes) -> PolicyFile:
    """Parse the bytes of a policy file; raises `InvalidRequest` with the first thing that is wrong with them."""
    return parse_file(PolicyFile, content, "policy")
