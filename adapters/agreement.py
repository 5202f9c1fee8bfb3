"""The port to what several servers agree on: which versions each name has, and which one it stands for.

A single server agrees with itself: `Alone`.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

from adapters.errors import AdapterConflict, AdapterRefused

MAX_VERSIONS = 1000
"""The most versions of one name that servers share."""

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class AgreedVersions(BaseModel):
    """What all servers agree on of one name. A name without versions was deleted.

    Attributes:
        versions: the hashes of its versions, oldest first.
        current: the one that the name stands for; None while it is not served.

    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    versions: Annotated[tuple[Hash, ...], Field(max_length=MAX_VERSIONS)] = ()
    current: Hash | None = None

    @model_validator(mode="after")
    def _check_current(self) -> "AgreedVersions":
        if self.current is not None and self.current not in self.versions:
            message = "current is none of the versions"
            raise ValueError(message)
        return self

    def having(self, version: str) -> "AgreedVersions":
        """Return the same with one more version, or itself where it is there."""
        if version in self.versions:
            return self
        if len(self.versions) >= MAX_VERSIONS:
            raise AdapterRefused(f"An adapter has at most {MAX_VERSIONS} versions: delete some.", parameter="name")
        return AgreedVersions(versions=(*self.versions, version), current=self.current)

    def without(self, version: str) -> "AgreedVersions":
        """Return the same without a version."""
        left = tuple(one for one in self.versions if one != version)
        return AgreedVersions(versions=left, current=None if self.current == version else self.current)

    def serving(self, version: str | None) -> "AgreedVersions":
        """Return the same with another current version, which is added where it is missing."""
        versions = self.versions if version is None else self.having(version).versions
        return AgreedVersions(versions=versions, current=version)

    def activating(self, version: str) -> "AgreedVersions":
        """Return what `serving` does, or raise `AdapterConflict` where there is no such version any more."""
        if version not in self.versions:
            raise AdapterConflict(f"The version {version[:8]} has just been deleted at another server.", parameter="version")
        return self.serving(version)


Change = Callable[[AgreedVersions], AgreedVersions]


class Agreement(Protocol):
    """What all servers agree on. The registry calls it while it holds the lock of the name.

    Attributes:
        is_shared: whether there may be other servers at all.

    """

    is_shared: bool

    def find(self, name: str) -> AgreedVersions | None:
        """Return the newest that is known of a name; None where the servers agree on nothing."""
        ...

    async def propose(self, name: str, change: Change) -> None:
        """Let all servers agree on a change of the newest that is known. A change that returns the same object is none.

        Raises:
            AdapterConflict: another server has changed the name meanwhile.
            NoAgreement: the other servers cannot be told.

        """
        ...

    async def is_followed(self, name: str) -> bool:
        """Wait until every living server follows the newest that is known of a name; return whether all did in time."""
        ...

    def offer(self, found: Mapping[str, AgreedVersions]) -> None:
        """Give what this server has found on its disk. It counts only for names that no server knows more about."""
        ...


class Alone:
    """The agreement of a single server."""

    is_shared = False

    def find(self, name: str) -> None:
        """Return nothing."""

    async def propose(self, name: str, change: Change) -> None:
        """Do nothing."""

    async def is_followed(self, name: str) -> bool:  # noqa: ARG002 - the port's
        """Return at once: there is nobody else."""
        return True

    def offer(self, found: Mapping[str, AgreedVersions]) -> None:
        """Do nothing."""
