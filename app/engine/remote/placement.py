"""Which replica a branch goes to: the one that holds its prefix, unless that has more than its share of the work.

Rendezvous hashing (Thaler and Ravishankar 1998) gives every prefix an order of the replicas. All front ends find the same one, and when a
replica comes or goes, only its own prefixes move. The share is that of consistent hashing with bounded loads (Mirrokni et al. 2018,
arXiv 1608.01350); above it, the less loaded of the first two serves (Mitzenmacher 2001).
"""

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol, TypeVar

from app.engine.base import Branch

MAX_SHARE = 1.25
"""A replica may have this multiple of the mean load before prefixes that are its own go elsewhere."""

FREE_LOAD = 8
"""Below so many branches a replica is never too loaded: one vote is no imbalance."""

MAX_REQUESTS = 16_384
"""Requests whose replica is remembered; the one that was placed first is forgotten first."""


class Loaded(Protocol):
    """What placement must know of a replica."""

    @property
    def name(self) -> str:
        """Its address."""
        ...

    @property
    def load(self) -> int:
        """The branches that it runs or queues."""
        ...


M = TypeVar("M", bound=Loaded)


def affinity_of(branch: Branch) -> bytes:
    """Return what branches have in common that share a prefix in an engine's cache: the adapter version, the salt, and the prompt."""
    adapter = branch.adapter.content if branch.adapter else ""
    key = blake2b(f"{adapter}\0{branch.cache_salt}\0".encode(), digest_size=16)
    key.update(repr(branch.prompt.token_ids).encode())
    return key.digest()


def choose(affinity: bytes, members: Sequence[M]) -> M:
    """Return the replica for a prefix. `members` are those that can take a branch, at least one."""
    ranked = sorted(members, key=lambda one: blake2b(one.name.encode(), key=affinity, digest_size=8).digest(), reverse=True)
    first = ranked[0]
    share = MAX_SHARE * (sum(one.load for one in members) + 1) / len(members)
    if first.load <= max(share, FREE_LOAD) or len(ranked) == 1:
        return first
    return min(ranked[:2], key=lambda one: one.load)


class Placement:
    """Places branches, all of one request on one replica for as long as that can take them."""

    def __init__(self) -> None:
        self._placed: OrderedDict[str, str] = OrderedDict()

    def place(self, branch: Branch, members: Sequence[M]) -> M:
        """Return the replica for a branch, one of `members`, of which there is at least one."""
        request = branch.id.rpartition("-")[0] or branch.id
        name = self._placed.get(request)
        found = next((one for one in members if one.name == name), None)
        if found is None:
            found = choose(affinity_of(branch), members)
            self._placed[request] = found.name
            self._placed.move_to_end(request)
            if len(self._placed) > MAX_REQUESTS:
                self._placed.popitem(last=False)
        return found
