"""Names of adapters: how a client writes one, and which versions it has."""

import re
from dataclasses import dataclass, field

from adapters.errors import AdapterLost, UnknownAdapter
from adapters.version import AdapterVersion

NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,64}")
MIN_PREFIX = 8
"""The fewest hexadecimal digits of a version's hash that can name it."""


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """A name, with the beginning of a version's hash where the caller pins a version."""

    name: str
    pin: str | None = None

    @classmethod
    def parse(cls, text: str) -> "AdapterRef":
        """Parse `name` or `name:sha8`; raises `UnknownAdapter` for anything else."""
        name, colon, pin = text.partition(":")
        if not NAME.fullmatch(name) or (colon and not re.fullmatch(rf"[0-9a-f]{{{MIN_PREFIX},64}}", pin)):
            raise UnknownAdapter(f"There is no adapter `{text[:200]}`.", parameter="model")
        return cls(name, pin or None)

    def __str__(self) -> str:
        return f"{self.name}:{self.pin}" if self.pin else self.name


@dataclass(slots=True)
class RegisteredAdapter:
    """A name in the registry, with its versions.

    Attributes:
        versions: by their hash, oldest first.
        current: the version that the name stands for; None while the name is not served.
        unusable: hash of a version that cannot be served -> the reason.
        awaited: hash of the version that all servers agreed on, where this server cannot serve it yet; else None.

    """

    name: str
    versions: dict[str, AdapterVersion] = field(default_factory=dict)
    current: AdapterVersion | None = None
    unusable: dict[str, str] = field(default_factory=dict)
    awaited: str | None = None

    def find(self, ref: AdapterRef) -> AdapterVersion:
        """Return the version that `ref` means; raises `UnknownAdapter` when there is none, or when several match."""
        if ref.pin is None:
            if self.current is None:
                raise UnknownAdapter(f"No version of the adapter `{ref.name}` is being served.", parameter="model")
            return self.current
        found = [version for version in self.versions.values() if version.version.startswith(ref.pin)]
        if len(found) != 1:
            raise UnknownAdapter(f"The adapter `{ref.name}` has no version {ref.pin}.", parameter="version")
        return found[0]

    def usable(self, ref: AdapterRef) -> AdapterVersion:
        """Return the version that `ref` means; raises `AdapterLost` when it is unusable, and what `find` raises."""
        version = self.find(ref)
        if (why := self.unusable.get(version.version)) is not None:
            raise AdapterLost(f"The adapter version `{version.id}` is lost: {why}.", parameter="model")
        return version
