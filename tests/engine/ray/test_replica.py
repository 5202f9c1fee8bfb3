"""A replica behind messages: what the front end sees is what the replica does, whatever is on its way."""

import asyncio
import math
from contextlib import aclosing, asynccontextmanager

import pytest

from adapters.errors import AdapterFailed
from adapters.ports import EngineAdapter
from app.engine.ray import replica as replica_module
from app.engine.ray import server as server_module
from app.engine.ray.messages import CODECS, Failure, answer, call
from app.engine.ray.replica import RayReplica
from app.engine.ray.server import ReplicaServer
from app.engine.replica import (
    ReplicaFailed,
    ReplicaLoad,
    ReplicaUnfit,
    RequestFailed,
    RequestRefused,
    TokenPart,
    TokenRequest,
    UnknownAdapter,
)

pytestmark = pytest.mark.anyio

ADAPTER = EngineAdapter("a#1", 1, "/a", "a:sha")


class Line:
    """The way between both ends: counts calls, and breaks when the test says so."""

    def __init__(self, server: ReplicaServer) -> None:
        self.server = server
        self.calls: list[str] = []
        self.is_broken = False
        self.delay = 0.0

    async def __call__(self, method: str, data: bytes) -> bytes:
        assert isinstance(data, bytes)
        self.calls.append(method)
        task = asyncio.create_task(self.server.answer(method, data))
        try:
            while not task.done():
                await asyncio.wait([task], timeout=0.005)
                if self.is_broken:
                    raise ReplicaFailed("the actor died")
            await asyncio.sleep(self.delay)
        finally:
            task.cancel()
        if self.is_broken:
            raise ReplicaFailed("the actor died")
        return task.result()


@pytest.fixture
def over(fake_replica):
    """`async with over(**attributes of the fake) as (replica, line, fake)`."""

    @asynccontextmanager
    async def over(**attributes):
        fake = fake_replica("a", **attributes)
        server = ReplicaServer(fake)
        line = Line(server)
        replica = RayReplica("a", line)
        try:
            yield replica, line, fake
        finally:
            await replica.close()
            await server.close()
            assert fake.running == 0

    return over


def asked(number: int = 0, tokens: int = 3, **fields) -> TokenRequest:
    """A branch."""
    return TokenRequest(id=f"r-{number}", token_ids=(1, 2), sampling={"max_tokens": tokens, "logit_bias": {5: 0.5}}, **fields)


async def parts_of(replica: RayReplica, request: TokenRequest) -> list[TokenPart]:
    """All parts of a branch."""
    return [part async for part in replica.generate(request)]


async def until(is_true) -> None:
    """Wait for what a fake does."""
    async with asyncio.timeout(5):
        while not is_true():  # noqa: ASYNC110 - of a fake
            await asyncio.sleep(0.001)


async def test_a_branch_arrives_as_it_was_sent_and_its_parts_as_they_were_generated(over) -> None:
    """Tokens, log-probabilities, why it ended; the replica knows it by an id of its own."""
    async with over() as (replica, _, fake):
        request = asked(adapter=ADAPTER, priority=3, cache_salt="s", features={"kwargs_data": {"image": ["x", None]}})
        parts = await parts_of(replica, request)
    [arrived] = fake.requests
    assert arrived.id != request.id
    assert arrived == TokenRequest(**{name: getattr(request, name) for name in request.__slots__} | {"id": arrived.id})
    assert [token for part in parts for token in part.token_ids] == [0, 1, 2]
    assert parts[0].positions == (((0, -1.0),),)
    assert (parts[-1].finish_reason, parts[-1].cached_tokens) == ("length", 1)


async def test_a_wave_of_branches_takes_one_call_and_its_tokens_come_together(over) -> None:
    """Not one call for each branch or token."""
    async with over() as (replica, line, _):
        line.delay = 0.01  # longer than a step
        results = await asyncio.gather(*(parts_of(replica, asked(number, 50)) for number in range(32)))
        assert all(sum(len(part.token_ids) for part in one) == 50 for one in results)
        assert line.calls.count("submit") == 1
        assert line.calls.count("pull") < 50


async def test_a_slow_reader_of_one_branch_keeps_no_other_waiting(over) -> None:
    """Each branch has an inbox."""
    async with over() as (replica, *_), aclosing(replica.generate(asked(0, 10_000))) as slow:
        await anext(slow)
        assert len(await parts_of(replica, asked(1))) == 4


async def test_a_reader_that_leaves_ends_its_branch_at_the_replica(over) -> None:
    """And no other."""
    async with over(pauses=True) as (replica, line, fake):
        tasks = [asyncio.create_task(parts_of(replica, asked(number))) for number in range(2)]
        await until(lambda: fake.running == 2)
        tasks[0].cancel()
        await until(lambda: fake.running == 1)
        fake.pauses = False
        assert (await tasks[1])[-1].finish_reason == "length"
        assert line.calls.count("drop") == 1


async def test_a_branch_that_is_halted_hands_in_what_it_has(over) -> None:
    """With a last part."""
    async with over(pauses=True) as (replica, _, fake):
        task = asyncio.create_task(parts_of(replica, asked()))
        await until(lambda: fake.running == 1)
        await replica.halt(["r-0", "unknown"])
        assert [part.finish_reason for part in await task] == ["abort"]


@pytest.mark.parametrize("error", [RequestRefused("no"), RequestFailed(), UnknownAdapter("a"), ReplicaFailed("dead")], ids=repr)
async def test_what_fails_one_branch_is_told_to_that_one(over, error) -> None:
    """By the same error."""
    async with over(pauses=True) as (replica, _, fake):
        other = asyncio.create_task(parts_of(replica, asked(1)))
        await until(lambda: fake.running == 1)
        generate = fake.generate

        async def failing(request):
            if request.id != fake.requests[0].id:
                raise error
            async for part in generate(request):
                yield part

        fake.generate = failing
        with pytest.raises(type(error)):
            await parts_of(replica, asked(2))
        fake.pauses = False
        assert (await other)[-1].finish_reason == "length"


async def test_an_error_that_nobody_knows_is_a_failure_without_its_text(over) -> None:
    """It may hold a prompt."""
    async with over(failure=ValueError("the prompt")) as (replica, *_):
        with pytest.raises(ReplicaFailed, match=r"^ValueError at its engine$"):
            await parts_of(replica, asked())


async def test_a_replica_that_dies_fails_all_of_its_branches_and_may_be_asked_again(over) -> None:
    """At once, and with a new session."""
    async with over(pauses=True) as (replica, line, fake):
        tasks = [asyncio.create_task(parts_of(replica, asked(number))) for number in range(8)]
        await until(lambda: fake.running == 8)
        line.is_broken = True
        async with asyncio.timeout(1):
            errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert {(type(one), str(one)) for one in errors} == {(ReplicaFailed, "the actor died")}
        line.is_broken, fake.pauses = False, False
        assert (await parts_of(replica, asked()))[-1].finish_reason == "length"


async def test_a_front_end_that_asks_for_nothing_loses_its_branches(over, monkeypatch) -> None:
    """It has been killed, or has lost its connection; in the latter case it is told."""
    monkeypatch.setattr(server_module, "SILENCE_S", 0.05)
    async with over(pauses=True) as (replica, line, fake):
        task = asyncio.create_task(parts_of(replica, asked()))
        await until(lambda: fake.running == 1)
        line.is_broken = True
        with pytest.raises(ReplicaFailed):
            await task
        await until(lambda: not fake.running)
        data = await line.server.answer("pull", call("a session that has ended"))
        with pytest.raises(ReplicaFailed, match="asked for nothing"):
            CODECS["pull"].read_answer(data)


async def test_a_front_end_without_a_token_for_long_is_not_gone(over, monkeypatch) -> None:
    """A question without an answer yet is a question."""
    monkeypatch.setattr(server_module, "SILENCE_S", 0.05)
    async with over(pauses=True) as (replica, _, fake):
        task = asyncio.create_task(parts_of(replica, asked()))
        await asyncio.sleep(0.2)
        fake.pauses = False
        assert (await task)[-1].finish_reason == "length"


async def test_a_replica_that_does_not_answer_has_failed(over, monkeypatch) -> None:
    """After a bounded time."""
    monkeypatch.setattr(replica_module, "ANSWER_S", 0.05)
    async with over() as (replica, line, _):
        line.delay = 60
        with pytest.raises(ReplicaFailed, match="did not answer load"):
            await replica.load()


async def test_all_that_a_fleet_asks_is_passed_on(over) -> None:
    """And its errors."""
    async with over(running=0) as (replica, _, fake):
        card = await replica.describe()
        assert (card.model, card.max_branches, card.adapter_slots) == ("m", 4, 2)
        assert await replica.load() == ReplicaLoad(0, 0, 0)
        assert await replica.tokenize("ab") == (97, 98)
        assert b"vllm:plain" in await replica.metrics()
        await replica.load_adapter(ADAPTER)
        assert fake.adapters == {"a:sha"}
        await replica.unload_adapter(ADAPTER)
        assert fake.adapters == set()
        fake.refuses, fake.unfit = {"a:sha"}, ReplicaUnfit("another model")
        with pytest.raises(AdapterFailed, match=r"No\."):
            await replica.load_adapter(ADAPTER)
        with pytest.raises(ReplicaUnfit, match="another model"):
            await replica.describe()


async def test_a_call_that_is_none_is_answered_with_a_failure(over) -> None:
    """Whatever arrives."""
    async with over() as (_, line, _fake):
        for method, data in (
            ("submit", b"\x01"),
            ("__class__", call()),
            ("submit", call("s", [{"id": 1}])),
            ("halt", call("s")),
        ):
            with pytest.raises(ReplicaFailed, match="a call that cannot be read"):
                CODECS["load"].read_answer(await line.server.answer(method, data))


def test_an_answer_that_is_none_is_a_failure() -> None:
    """Whatever arrives."""
    for data in (b"", b"\x01", answer("text"), answer(failure=None)[:1]):
        with pytest.raises(ReplicaFailed, match="an answer that cannot be read"):
            CODECS["load"].read_answer(data)


def test_log_probabilities_that_are_no_numbers_arrive_as_they_are() -> None:
    """An adapter that computes nonsense is found by them."""
    data = answer([("1", TokenPart((1,), (((1, math.nan), (2, -math.inf)),)), None)])
    [item] = CODECS["pull"].read_answer(data)
    (_, first), (_, second) = item.part.positions[0]
    assert math.isnan(first)
    assert second == -math.inf


def test_the_most_special_error_is_sent() -> None:
    """Some errors of the port are kinds of others."""
    assert [Failure.of(one("")).kind for one in (ReplicaUnfit, UnknownAdapter, ReplicaFailed)] == [
        "unfit",
        "unknown_adapter",
        "lost",
    ]
