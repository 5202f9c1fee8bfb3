"""The engine over replicas: what a branch sees while they come, fail and go. Tokens and texts are not vLLM's here."""

import asyncio
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

import pytest

from adapters.ports import EngineAdapter
from app.engine.base import Branch, Output, Prompt
from app.engine.remote import fleet as fleet_module
from app.engine.remote.member import FAILURES
from app.engine.replica import ReplicaFailed, TokenPart, TokenRequest
from app.errors import NoReplica

pytestmark = [pytest.mark.anyio, pytest.mark.vllm]

PREFIX = (1, 2, 3)
ADAPTER = EngineAdapter("a#1", 1, "/a", "a:sha")


class Numbers:
    """A reader that counts."""

    def __init__(self, *_: object) -> None:
        self.token_ids: tuple[int, ...] = ()

    def read(self, part: TokenPart) -> Output:
        self.token_ids += part.token_ids
        return Output("", part.token_ids, len(PREFIX), part.cached_tokens or 0, part.finish_reason)


@pytest.fixture
def over(monkeypatch):
    """`over(*replicas)`: an engine over these, as it runs."""
    from app.engine.remote import engine as module
    from app.engine.remote.adapters import ReplicaAdapters
    from app.engine.remote.options import FleetOptions

    for name, value in {"PROBE_S": 0.02, "FIRST_PAUSE_S": 0.01, "LONGEST_PAUSE_S": 0.02}.items():
        monkeypatch.setattr(fleet_module, name, value)
    monkeypatch.setattr(module, "REPLACEMENT_S", 0.3)
    monkeypatch.setattr(module, "OutputReader", Numbers)
    monkeypatch.setattr(
        module, "request_of",
        lambda one: TokenRequest(id=one.id, token_ids=one.prefix, sampling={"max_tokens": one.max_tokens}, adapter=one.adapter),
    )  # fmt: skip

    @asynccontextmanager
    async def over(*replicas):
        by_url = {f"http://127.0.0.1:{number}": one for number, one in enumerate(replicas, 1)}
        for url, one in by_url.items():
            one.name = url
        engine = module.RemoteEngine(None, FleetOptions(urls=tuple(by_url)), by_url.__getitem__)
        engine._model = SimpleNamespace(
            model_config=SimpleNamespace(get_vocab_size=lambda: 100), renderer=SimpleNamespace(tokenizer=None)
        )
        engine._texts = None
        engine.adapters = ReplicaAdapters(engine.fleet, None, PREFIX)
        engine._joining = SimpleNamespace(check=lambda replica: replica.describe())
        engine._keeping = asyncio.create_task(engine.fleet.run())
        try:
            assert await engine.fleet.wait_until(lambda: len(engine.fleet.ready) == len(replicas), 5)
            yield engine
        finally:
            await engine.close()

    return over


def branch(number: int = 0, **fields) -> Branch:
    """A branch of three tokens."""
    return Branch(id=f"r-{number}", prompt=Prompt(PREFIX, 3), prefix=PREFIX, max_tokens=3, **fields)


async def outputs_of(engine, one: Branch) -> list[Output]:
    """All outputs of a branch, whose reader leaves at the last one."""
    return [output async for output in engine.generate(one)]


def answering(replica, *parts: TokenPart) -> None:
    """Let a replica answer these parts to every branch."""

    async def generate(_request):
        for part in parts:
            yield part

    replica.generate = generate


async def test_failures_are_counted_in_a_row_only(over, fake_replica) -> None:
    """A branch that succeeds in between begins the count anew, also one whose reader leaves at its last part."""
    a = fake_replica("a")
    async with over(a) as engine:
        [member] = engine.fleet.members
        for number in range(FAILURES):
            with suppress(ReplicaFailed), member.breaker.passing():
                raise ReplicaFailed
            assert (await outputs_of(engine, branch(number)))[-1].finish_reason == "length"
        assert member.breaker.is_closed


@pytest.mark.parametrize(
    "parts",
    [
        (TokenPart((100,)),), (TokenPart((-1,)),), (TokenPart((1, 1, 1, 1)),), (TokenPart(finish_reason="abort"),),
        (TokenPart((1,), finish_reason="tool_calls"),), (TokenPart((1,), finish_reason="stop", cached_tokens=-5),),
    ],
)  # fmt: skip
async def test_nonsense_moves_the_branch(over, fake_replica, parts) -> None:
    """Callers see the answer of another replica."""
    a, b = fake_replica("a"), fake_replica("b")
    async with over(a, b) as engine:
        [first] = {m.replica for m in [engine._placement.place(branch(), engine.fleet.ready)]}
        answering(first, *parts)
        *_, last = await outputs_of(engine, branch())
        assert last.finish_reason == "length"
        assert [m.num_failures for m in engine.fleet.members if m.replica is first] == [1]


async def test_a_replica_that_was_lost_begins_anew(over, fake_replica, lost) -> None:
    """Once its probes succeed again it takes branches, however many were lost with it."""
    a = fake_replica("a", pauses=True)
    async with over(a) as engine:
        tasks = [asyncio.create_task(outputs_of(engine, branch(number))) for number in range(6)]
        while a.running < 6:  # noqa: ASYNC110 - of a fake
            await asyncio.sleep(0.001)
        a.failure = lost
        await asyncio.gather(*tasks, return_exceptions=True)
        a.failure, a.pauses = None, False
        assert await engine.fleet.wait_until(lambda: bool(engine.fleet.ready), 5)
        results = await asyncio.gather(*(outputs_of(engine, branch(number)) for number in range(6)))
        assert [one[-1].finish_reason for one in results] == ["length"] * 6


async def test_a_trial_that_goes_well_lets_others_through(over, fake_replica) -> None:
    """Long before it is over."""
    a = fake_replica("a", pauses=True)
    async with over(a) as engine:
        [member] = engine.fleet.members
        member.breaker._rests_until = 0.0
        trial = engine.generate(branch(0))
        first = asyncio.create_task(anext(trial))
        await asyncio.sleep(0.01)
        assert not member.breaker.may_pass
        a.pauses = False
        await first
        assert member.breaker.may_pass
        await trial.aclose()


async def test_an_adapter_that_a_replica_does_not_take_moves_the_branch(over, fake_replica) -> None:
    """It was taken before: the replica has changed, and not the request."""
    a = fake_replica("a")
    async with over(a) as engine:
        a.refuses.add(ADAPTER.content)
        with pytest.raises(NoReplica):
            await outputs_of(engine, branch(adapter=ADAPTER))


async def test_an_outage_names_no_replica(over, fake_replica, lost) -> None:
    """Anyone may ask whether the server is ready."""
    a = fake_replica("a")
    async with over(a) as engine:
        assert engine.outage is None
        a.failure = lost
        assert await engine.fleet.wait_until(lambda: not engine.fleet.ready, 5)
        assert engine.outage == "no replica is ready: 1 failed"


async def test_a_branch_that_is_halted_while_none_is_ready_ends_at_once(over, fake_replica, lost) -> None:
    """With what it has."""
    a = fake_replica("a")
    async with over(a) as engine:
        a.failure = lost
        assert await engine.fleet.wait_until(lambda: not engine.fleet.ready, 5)
        task = asyncio.create_task(outputs_of(engine, branch()))
        await asyncio.sleep(0.01)
        await engine.halt(["r-0"])
        async with asyncio.timeout(0.1):
            assert [one.finish_reason for one in await task] == ["abort"]
        assert engine._journeys == {}


async def test_a_branch_that_is_halted_while_its_adapter_is_loaded_is_not_begun(over, fake_replica) -> None:
    """Its replica does not know it yet, and cannot end it."""
    a, loading = fake_replica("a"), asyncio.Event()

    async def load_adapter(_adapter):
        await loading.wait()

    async with over(a) as engine:
        a.load_adapter = load_adapter
        task = asyncio.create_task(outputs_of(engine, branch(adapter=ADAPTER)))
        await asyncio.sleep(0.01)
        await engine.halt(["r-0"])
        loading.set()
        assert [one.finish_reason for one in await task] == ["abort"]
        assert not a.requests


async def test_ids_on_replicas_are_those_of_one_front_end(over, fake_replica) -> None:
    """Two front ends have branches of the same id on one replica. One that ends its own must not end the other's."""
    replica = fake_replica("a")
    replica.pauses = True
    async with over(replica) as one, over(replica) as other, asyncio.TaskGroup() as group:
        ended, running = (group.create_task(outputs_of(engine, branch())) for engine in (one, other))
        while len(replica.requests) < 2:  # noqa: ASYNC110 - of two engines
            await asyncio.sleep(0.001)
        await one.halt(["r-0"])
        assert (await ended)[-1].finish_reason == "abort"
        replica.pauses = False
        assert (await running)[-1].finish_reason == "length"
    assert len({request.id for request in replica.requests}) == 2
