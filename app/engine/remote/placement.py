"""Which replica a branch goes to: the one that holds its prefix, unless that has more than its share of the work.

Rendezvous hashing (Thaler and Ravishankar 1998) gives every prefix an order of the replicas. All front ends find the same one, and when a
replica comes or goes, only its own prefixes move. The first replica in this order that is not above its share serves, as in consistent
hashing with bounded loads (Mirrokni et al. 2018, arXiv 1608.01350). So a prefix that many ask for is held by as many replicas as it needs.

The share counts the branches of this front end alone. What it knows of others is a second old: when many front ends act on the same old
numbers, all of them choose the same replica (`benchmarks/large_fleet.py`). If each spreads its own branches evenly, their sum is even too.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Protocol, TypeVar

from app.engine.base import Branch

MAX_SHARE = 1.25
"""A replica with more than this multiple of the mean gets no further requests, also for prefixes that it holds."""

MAX_TOTAL_SHARE = 2.0
"""The same for the branches of all front ends. A replica has more only if others use it too, or a front end limits no shares."""

FREE_LOAD = 8
"""A replica with so many branches or fewer always takes more: a vote of 8 is no imbalance."""

MIN_BLOCKS = 4
"""Prompts of fewer blocks are placed as a whole, and not by their beginnings: a shared beginning would save little."""

MAX_REQUESTS = 16_384
"""Requests whose replica is remembered; the one that was placed first is forgotten first."""

BLOCK = 128
"""Tokens of a prompt between two places at which its beginning is remembered."""

MAX_BEGINNINGS = 65_536
"""Beginnings whose replica is remembered; the one that was used least recently is forgotten first."""

MIN_SHARED = 0.5
"""A replica gets a prompt again if it has seen at least this share of it: then it had an earlier turn, and not only a system prompt."""


class Loaded(Protocol):
    """What placement must know of a replica."""

    @property
    def name(self) -> str:
        """Its address."""
        ...

    @property
    def num_branches(self) -> int:
        """The branches that it has of this front end."""
        ...

    @property
    def load(self) -> int:
        """The branches that it has of all front ends, as far as is known."""
        ...


M = TypeVar("M", bound=Loaded)
K = TypeVar("K")


def affinities_of(branch: Branch) -> list[bytes]:
    """Return keys of what a branch shares with others in an engine's cache: of its prompt's beginnings, then of the whole prompt.

    They depend on the adapter version and the salt too. A branch that does not continue its prompt, as those that judge an answer to
    another model, has its prefix for one.
    """
    adapter = branch.adapter.content if branch.adapter else ""
    key = blake2b(f"{adapter}\0{branch.cache_salt}\0".encode(), digest_size=16)
    prompt = branch.prompt.token_ids
    tokens = prompt if branch.prefix[: len(prompt)] == prompt else branch.prefix
    keys = []
    for start in range(0, max(len(tokens), 1), BLOCK):
        key.update(repr(tokens[start : start + BLOCK]).encode())
        keys.append(key.digest())
    return keys


def ranked(key: bytes, members: Sequence[M]) -> list[M]:
    """Return the replicas in the order of a key of at most 64 bytes, the same for everyone who asks (rendezvous hashing)."""
    return sorted(members, key=lambda one: blake2b(one.name.encode(), key=key, digest_size=8).digest(), reverse=True)


def meeting_key(keys: Sequence[bytes]) -> bytes:
    """Return the key that places a request whose beginning this front end has not seen. It is one of `affinities_of`.

    All front ends find the same one for prompts that have a quarter or more in common, and a conversation keeps it until it is twice as
    long: it is that of the largest power of two of blocks that is at most half of the prompt.
    """
    return keys[-1] if len(keys) < MIN_BLOCKS else keys[2 ** ((len(keys) // 2).bit_length() - 1) - 1]


def choose(affinity: bytes, members: Sequence[M]) -> M:
    """Return the replica for a prefix. `members` are those that can take a branch, at least one."""
    order = ranked(affinity, members)
    is_above_share = shares_of(members)
    return next((one for one in order if not is_above_share(one)), None) or min(order, key=lambda one: one.load)


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
            found = self._holder(keys, members) or choose(meeting_key(keys), members)
            self._remember(self._placed, MAX_REQUESTS, {request: found.name})
            self._remember(self._seen, MAX_BEGINNINGS, dict.fromkeys(keys, found.name))
        return found

    def _holder(self, keys: Sequence[bytes], members: Sequence[M]) -> M | None:
        """Return the replica that has seen the longest beginning, if that is long enough and it has no more than its share."""
        for number in range(len(keys), math.ceil(MIN_SHARED * len(keys)) - 1, -1):
            if (name := self._seen.get(keys[number - 1])) is not None:
                found = next((one for one in members if one.name == name), None)
                return None if found is None or shares_of(members)(found) else found
        return None

    @staticmethod
    def _remember(kept: OrderedDict[K, str], most: int, entries: Mapping[K, str]) -> None:
        for key, name in entries.items():
            kept[key] = name
            kept.move_to_end(key)
        while len(kept) > most:
            kept.popitem(last=False)


def shares_of(members: Sequence[M]) -> Callable[[M], bool]:
    """Return a function that tells whether a replica has so many branches that the next request should go elsewhere."""
    share = MAX_SHARE * (sum(one.num_branches for one in members) + 1) / len(members)
    total = MAX_TOTAL_SHARE * (sum(one.load for one in members) + 1) / len(members)
    return lambda one: one.load > FREE_LOAD and (one.num_branches > share or one.load > total)
