"""Documents that front ends agree on: no change is lost, and none counts that was made to an older document."""

import asyncio
import itertools
from contextlib import asynccontextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from app.errors import Conflict, InvalidRequest, SharedStateLost
from app.shared import table as table_module
from app.shared.store import Store, where
from app.shared.table import SharedTable
from tests.shared.waiting import until

pytestmark = pytest.mark.anyio


class Count(BaseModel):
    """A document of the tests."""

    value: int = Field(0, ge=0)
    text: str = ""


@pytest.fixture
def tables(valkey):
    """`async with tables(2) as (one, other)`: the same table at several front ends. Nothing tells them of changes but `newest`."""
    prefixes = map(str, itertools.count())

    @asynccontextmanager
    async def made(number: int):
        prefix = next(prefixes)
        stores = [Store(valkey.url, prefix) for _ in range(number)]
        found = [SharedTable(store, "counts", Count) for store in stores]
        tasks = [asyncio.create_task(table.run()) for table in found]
        try:
            yield found
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for store in stores:
                await store.close()

    return made


def newest(*tables: SharedTable) -> int:
    return max(table.revision(name) for table in tables for name in "abc")


async def increase(table: SharedTable, name: str) -> bool:
    """Change what this front end knows; return whether the change counted."""
    known = table.find(name) or Count()
    try:
        await table.change(name, Count(value=known.value + 1))
    except Conflict:
        return False
    return True


STEPS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abc"), st.booleans()), min_size=1, max_size=25)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_every_change_that_counts_is_kept(tables, steps) -> None:
    """Whatever the front ends know when they make it, some of them at the same time: each counts on top of all before it."""
    async with tables(3) as all_:
        counted = dict.fromkeys("abc", 0)
        for place, name, knows in steps:
            if knows:
                at = newest(*all_)
                all_[place].notice(at, is_doubtful=False)
                await until(lambda table=all_[place], at=at: table.seen == at)
            together = [increase(all_[place], name), increase(all_[(place + 1) % 3], name)]
            counted[name] += sum(await asyncio.gather(*together))
        for table in all_:
            table.notice(newest(*all_), is_doubtful=True)
            await until(lambda table=table: table.seen == newest(*all_))
            assert {name: (table.find(name) or Count()).value for name in "abc"} == counted


async def test_one_of_two_changes_at_once_counts(tables) -> None:
    async with tables(2) as (one, other):
        counted = await asyncio.gather(increase(one, "a"), increase(other, "a"))
        assert sorted(counted) == [False, True]


async def test_an_emptied_store_is_restored_to_the_newest_that_anybody_knows(tables, valkey) -> None:
    """Also where those come first who know less."""
    async with tables(3) as (old, new, fresh):
        await increase(old, "a")
        new.notice(newest(old), is_doubtful=False)
        await until(lambda: new.seen == newest(old))
        await increase(new, "a")
        valkey.kill()
        with pytest.raises(SharedStateLost):
            await increase(new, "a")
        valkey.start()
        fresh.offer({"a": Count(value=7), "b": Count(value=8)})
        for table in (fresh, old, new, old, fresh):
            table.has_caught_up.clear()
            table.notice(0, is_doubtful=True)
            await table.has_caught_up.wait()
        for table in (old, fresh, new):
            assert (table.find("a").value, table.find("b").value) == (2, 8)


async def test_what_was_agreed_after_a_loss_is_newer_than_what_was_agreed_before(tables, valkey) -> None:
    """A front end that was away meanwhile does not bring the old state back."""
    async with tables(2) as (away, there):
        for _ in range(3):
            await increase(away, "a")
        valkey.kill()
        valkey.start()
        await there.change("a", Count(value=50))
        away.notice(newest(there), is_doubtful=True)
        await until(lambda: away.find("a").value == 50)


async def test_documents_and_names_are_bounded(tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "MAX_DOCUMENT_BYTES", 100)
    monkeypatch.setattr(table_module, "MAX_NAMES", 2)
    async with tables(1) as (table,):
        with pytest.raises(InvalidRequest):
            await table.change("a", Count(text="x" * 100))
        with pytest.raises(InvalidRequest):
            await table.change("a" * 300, Count())
        for name in "ab":
            await table.change(name, Count())
        with pytest.raises(InvalidRequest):
            await table.change("c", Count())


async def test_an_error_of_the_store_names_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    store = Store("redis://user:hidden@127.0.0.1:1/0", "test")
    with pytest.raises(SharedStateLost) as lost:
        await store.run("return 1", [])
    assert "hidden" not in str(lost.value) + lost.value.why
    assert where("rediss://user:hidden@valkey:6379/2?password=hidden") == "rediss://valkey:6379/2"
    assert where("unix://user:hidden@/run/valkey.sock?db=1") == "unix:///run/valkey.sock"
    await store.close()
