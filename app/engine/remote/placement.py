"""Which replica a branch goes to: the one that holds its prefix, unless that has more than its share of the work.

Rendezvous hashing (Thaler and Ravishankar 1998) gives every prefix an order of the replicas. All front ends find the same one, and when a
replica comes or goes, only its own prefixes move. The share is that of consistent hashing with bounded loads (Mirrokni et al. 2018,
arXiv 1608.01350); above it, the less loaded of the first two serves (Mitzenmacher 2001).
"""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Protocol, TypeVar

from app.engine.base import Branch

MAX_SHARE = 1.25
"""A replica may have this multiple of the mean load before prefixes that are its own go elsewhere."""

FREE_LOAD = 8
"""Below so many branches a replica is never too loaded: one vote is no imbalance."""

MAX_REQUESTS = 16_384
"""Requests whose replica is remembered; the one that was placed first is forgotten first."""

BLOCK = 128
"""Tokens of a prompt between two places at which its beginning is remembered."""

MAX_BEGINNINGS = 65_536
"""Beginnings whose replica is remembered; the one that was used least recently is forgotten first."""

MIN_SHARED = 0.5
"""A replica is asked again if it has seen at least this share of the prompt: an earlier turn, and not only a system prompt."""


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
K = TypeVar("K")


def affinities_of(branch: Branch) -> list[bytes]:
    """Return keys of what a branch shares with others in an engine's cache: of its prompt's beginnings, then of the whole prompt.

    They depend on the adapter version and the salt too.
    """
    adapter = branch.adapter.content if branch.adapter else ""
    key = blake2b(f"{adapter}\0{branch.cache_salt}\0".encode(), digest_size=16)
    tokens = branch.prompt.token_ids
    keys = []
    for start in range(0, max(len(tokens), 1), BLOCK):
        key.update(repr(tokens[start : start + BLOCK]).encode())
        keys.append(key.digest())
    return keys


def ranked(key: bytes, members: Sequence[M]) -> list[M]:
    """Return the replicas in the order of a key of at most 64 bytes, the same for everyone who asks (rendezvous hashing)."""
    return sorted(members, key=lambda one: blake2b(one.name.encode(), key=key, digest_size=8).digest(), reverse=True)


def choose(affinity: bytes, members: Sequence[M]) -> M:
    """Return the replica for a prefix. `members` are those that can take a branch, at least one."""
    first, *others = ranked(affinity, members)
    if not is_above_share(first, members):
        return first
    return min([first, *others[:1]], key=lambda one: one.load)


class Placement:
    """Places branches: all of one request on one replica, and the next turn of a conversation where its last one was."""

    def __init__(self) -> None:
        self._placed: OrderedDict[str, str] = OrderedDict()
        self._seen: OrderedDict[bytes, str] = OrderedDict()

    def place(self, branch: Branch, members: Sequence[M]) -> M:
        """Return the replica for a branch, one of `members`, of which there is at least one."""
        request = branch.id.rpartition("-")[0] or branch.id
        name = self._placed.get(request)
        found = next((one for one in members if one.name == name), None)
        if found is None:
            keys = affinities_of(branch)
            found = self._holder(keys, members) or choose(keys[-1], members)
            self._remember(self._placed, MAX_REQUESTS, {request: found.name})
            self._remember(self._seen, MAX_BEGINNINGS, dict.fromkeys(keys, found.name))
        return found

    def _holder(self, keys: Sequence[bytes], members: Sequence[M]) -> M | None:
        """Return the replica that has seen the longest beginning, if that is long enough and it has no more than its share."""
        for number in range(len(keys), math.ceil(MIN_SHARED * len(keys)) - 1, -1):
            if (name := self._seen.get(keys[number - 1])) is not None:
                found = next((one for one in members if one.name == name), None)
                return found if found is not None and not is_above_share(found, members) else None
        return None

    @staticmethod
    def _remember(kept: OrderedDict[K, str], most: int, entries: Mapping[K, str]) -> None:
        for key, name in entries.items():
            kept[key] = name
            kept.move_to_end(key)
        while len(kept) > most:
            kept.popitem(last=False)


def is_above_share(member: M, members: Sequence[M]) -> bool:
    """Whether a replica has so many branches that the next request should go elsewhere."""
    share = MAX_SHARE * (sum(one.load for one in members) + 1) / len(members)
    return member.load > max(share, FREE_LOAD)
