"""The port to what front ends agree on of policies: their numbers, by the hashes of their texts, and which one is active."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from adapters.agreement import Hash

MAX_KEPT = 100
"""The number of uploaded policies that are kept for one name. The oldest are deleted first."""


class AgreedPolicies(BaseModel):
    """The uploaded policies of one model or adapter.

    Attributes:
        texts: number of a policy -> hash of its text.
        current: the number of the active policy; 0 for the one that ships with the server, None for none.

    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    texts: Annotated[dict[Annotated[int, Field(ge=1, le=2**31)], Hash], Field(max_length=MAX_KEPT)] = {}
    current: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _check_current(self) -> "AgreedPolicies":
        if self.current and self.current not in self.texts:
            message = "current is none of the numbers"
            raise ValueError(message)
        return self


def hash_of(text: bytes) -> str:
    """Return the hash that stands for the text of a policy."""
    return hashlib.sha256(text).hexdigest()


ReadText = Callable[[str, int], bytes | None]
"""Returns the text of a policy on this front end's disk, by its name and number; None where it is not there. It blocks."""


class PolicyAgreement:
    """The agreement of a single front end with itself, and the port of others."""

    def find(self, name: str) -> AgreedPolicies | None:  # noqa: ARG002 - the port's
        """Return the newest that is known of a name; None where front ends agree on nothing."""
        return None

    async def add(self, name: str, number: int, text: bytes) -> None:
        """Let all front ends agree on a new policy, which is the active one.

        Raises:
            Conflict: another front end has changed the name meanwhile.
            SharedStateLost: the others cannot be told.

        """

    async def choose(self, name: str, number: int | None) -> None:
        """Let all front ends agree on which policy is active. Raises what `add` does."""

    async def fetch(self, name: str, digest: str) -> bytes | None:  # noqa: ARG002 - the port's
        """Return the text with this hash, None where the store does not have it. Raises `SharedStateLost`."""
        return None

    def offer(self, found: Callable[[], Mapping[str, AgreedPolicies]], read: ReadText) -> None:
        """Give what this front end has on its disk, which counts only for names that nobody knows more about."""
