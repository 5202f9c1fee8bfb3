"""Where branches go: to the replica of their prefix, unless that has more than its share."""

from collections import Counter
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.ports import EngineAdapter
from app.engine.base import Branch, Prompt
from app.engine.remote.placement import (
    BLOCK,
    FREE_LOAD,
    MAX_SHARE,
    MIN_BLOCKS,
    Placement,
    affinities_of,
    choose,
    meeting_key,
    ranked,
)


@dataclass
class Holder:
    """A replica with branches of this front end and of others."""

    name: str
    num_branches: int = 0
    others: int = 0

    @property
    def load(self) -> int:
        """All of them."""
        return self.num_branches + self.others


def branch(prompt: int = 0, request: str = "r", *, number: int = 0, salt: str = "s", adapter: str | None = None) -> Branch:
    """A branch of a request with its own prompt."""
    tokens = tuple(range(prompt, prompt + 50))
    used = None if adapter is None else EngineAdapter(adapter, 1, "", adapter)
    return Branch(
        id=f"{request}-{number}", prompt=Prompt(tokens, 9), prefix=tokens, max_tokens=9, cache_salt=salt, adapter=used
    )


def affinity_of(one: Branch) -> bytes:
    """The key of the whole prompt."""
    return affinities_of(one)[-1]


def test_what_shares_a_prefix_shares_a_replica() -> None:
    """Whatever the length of the branch's own prefix; another prompt, salt or adapter version may go elsewhere."""
    assert affinity_of(branch()) == affinity_of(branch(number=5, request="other"))
    others = [branch(1), branch(salt="t"), branch(adapter="a:1"), branch(adapter="a:2")]
    assert len({affinity_of(one) for one in (branch(), *others)}) == 5


def test_judgements_are_placed_by_what_is_judged() -> None:
    """Their prompt is the same for all: without their prefixes, all of them would go to one replica."""
    judgements = [replace(branch(request=str(number)), prefix=tuple(range(number, number + 300))) for number in range(1, 101)]
    members = [Holder(str(number)) for number in range(4)]
    placement = Placement()
    placed = Counter(placement.place(one, members).name for one in judgements)
    assert len(placed) == 4
    assert affinities_of(judgements[0])[0] == affinities_of(replace(judgements[0], prefix=tuple(range(1, 400))))[0]


def test_prefixes_are_spread_evenly() -> None:
    """Rendezvous hashing has no heavy replica."""
    members = [Holder(f"http://10.0.0.{i}") for i in range(8)]
    counts = Counter(choose(affinity_of(branch(prompt)), members).name for prompt in range(4000))
    assert len(counts) == 8
    assert max(counts.values()) < 1.3 * min(counts.values())


@given(st.integers(0, 1000), st.integers(0, 7))
def test_only_the_prefixes_of_a_replica_that_leaves_move(prompt, leaver) -> None:
    """And they come back with it."""
    members = [Holder(f"http://10.0.0.{i}") for i in range(8)]
    before = choose(affinity_of(branch(prompt)), members)
    after = choose(affinity_of(branch(prompt)), [one for i, one in enumerate(members) if i != leaver])
    assert after is before or before is members[leaver]


def test_a_replica_above_its_share_is_passed_over_for_the_next() -> None:
    """In the order of the prefix, so that all front ends find the same ones. Small loads are no imbalance."""
    members = [Holder(f"http://10.0.0.{i}") for i in range(4)]
    key = affinity_of(branch())
    order = ranked(key, members)
    order[0].num_branches = FREE_LOAD
    assert choose(key, members) is order[0]
    for number, one in enumerate(order[:3]):
        one.num_branches = 100
        assert choose(key, members) is order[number + 1]


def test_what_others_have_there_counts_only_where_it_is_much() -> None:
    """It is a second old: front ends that all act on it would all go to the same replica."""
    members = [Holder(f"http://10.0.0.{i}", num_branches=10, others=100) for i in range(4)]
    key = affinity_of(branch())
    first = choose(key, members)
    first.others = 150
    assert choose(key, members) is first
    first.others = 400
    assert choose(key, members) is not first


@given(st.lists(st.integers(0, 200), min_size=1, max_size=12), st.integers(0, 99))
def test_no_replica_gets_more_above_its_share(loads, prompt) -> None:
    """There is always one below it."""
    members = [Holder(f"http://10.0.0.{i}", load) for i, load in enumerate(loads)]
    chosen = choose(affinity_of(branch(prompt)), members)
    assert chosen.load <= max(MAX_SHARE * (sum(loads) + 1) / len(loads), FREE_LOAD)


def test_front_ends_agree_on_where_a_beginning_goes() -> None:
    """Also if they have seen nothing of it: a long system prompt is in one cache, and a conversation keeps its replica while it grows."""
    system = tuple(range(900))
    keys = {
        meeting_key(affinities_of(with_tokens((*system, *range(5000 + 300 * user, 5300 + 300 * user))))) for user in range(9)
    }
    assert len(keys) == 1
    turns = [meeting_key(affinities_of(with_tokens(tuple(range(tokens))))) for tokens in range(1024, 1900, 100)]
    assert len(set(turns)) == 1
    short = {meeting_key(affinities_of(with_tokens((*range(300), user)))) for user in range(9)}
    assert len(short) == 9


@given(st.integers(1, 5000))
def test_the_beginning_that_they_agree_on_is_a_quarter_at_least(tokens) -> None:
    """And never more than the prompt."""
    keys = affinities_of(with_tokens(tuple(range(tokens))))
    place = keys.index(meeting_key(keys)) + 1
    assert place == len(keys) if len(keys) < MIN_BLOCKS else len(keys) / 4 < place <= len(keys) / 2


def with_tokens(tokens: tuple[int, ...]) -> Branch:
    """A branch of this prompt."""
    return Branch(id="r-0", prompt=Prompt(tokens, 9), prefix=tokens, max_tokens=9)


def test_all_branches_of_a_request_stay_together() -> None:
    """Also when their replica gets above its share meanwhile: it has their prefix."""
    members, placement = [Holder("a"), Holder("b")], Placement()
    first = placement.place(branch(), members)
    first.num_branches = 1000
    assert all(placement.place(branch(number=i), members) is first for i in range(1, 20))
    assert placement.place(branch(request="next"), members) is not first


def test_a_request_whose_replica_is_gone_is_placed_anew() -> None:
    """And stays there."""
    members, placement = [Holder("a"), Holder("b")], Placement()
    first = placement.place(branch(), members)
    rest = [one for one in members if one is not first]
    assert placement.place(branch(number=1), rest) is rest[0]
    assert placement.place(branch(number=2), members) is rest[0]


def test_old_requests_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of placements is bounded."""
    monkeypatch.setattr("app.engine.remote.placement.MAX_REQUESTS", 3)
    placement = Placement()
    for i in range(10):
        placement.place(branch(request=f"r{i}"), [Holder("a")])
    assert len(placement._placed) == 3


def turn(number: int, *, system: int = 0, user: int = 0) -> Branch:
    """A turn of a conversation: a system prompt, and 300 tokens of the user's own for each turn, after 600 to begin with."""
    tokens = (*range(system), *range(10_000 * (user + 1), 10_000 * (user + 1) + 600 + 300 * number))
    return Branch(id=f"{user}.{number}-0", prompt=Prompt(tokens, 9), prefix=tokens, max_tokens=9)


def test_a_conversation_stays_where_it_began() -> None:
    """Each turn begins with the one before it."""
    members = [Holder(f"http://10.0.0.{i}") for i in range(8)]
    placement = Placement()
    for user in range(20):
        assert len({placement.place(turn(number, user=user), members).name for number in range(1, 8)}) == 1


def test_a_system_prompt_alone_binds_nobody() -> None:
    """Else all would be on one replica."""
    members = [Holder(f"http://10.0.0.{i}") for i in range(8)]
    placement = Placement()
    assert len({placement.place(turn(2, system=500, user=user), members).name for user in range(40)}) >= 6


def test_a_conversation_leaves_a_replica_above_its_share() -> None:
    """And one that is gone."""
    members, placement = [Holder("a"), Holder("b"), Holder("c")], Placement()
    first = placement.place(turn(1), members)
    first.num_branches = 1000
    second = placement.place(turn(2), members)
    assert second is not first
    rest = [one for one in members if one is not second]
    assert placement.place(turn(3), rest) in rest


def test_beginnings_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of them is bounded."""
    monkeypatch.setattr("app.engine.remote.placement.MAX_BEGINNINGS", 10)
    placement = Placement()
    for user in range(20):
        placement.place(turn(9, user=user), [Holder("a")])
    assert len(placement._seen) == 10
    assert len(affinities_of(turn(9))) == 3300 // BLOCK + 1
