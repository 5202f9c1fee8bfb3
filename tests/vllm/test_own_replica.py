"""The engine in this process as a replica: what vLLM is asked, and what becomes of its answers. vLLM's engine is a fake."""

import asyncio
from types import SimpleNamespace

import pytest

from adapters.errors import AdapterFailed
from adapters.ports import EngineAdapter
from app.engine.replica import ReplicaFailed, ReplicaLoad, RequestFailed, RequestRefused, TokenRequest, UnknownAdapter

pytestmark = [pytest.mark.anyio, pytest.mark.vllm]

ADAPTER = EngineAdapter("a#1", 7, "/a", "a:sha")


def result(*token_ids: int, **fields) -> SimpleNamespace:
    """One of vLLM's `RequestOutput`."""
    output = {"token_ids": list(token_ids), "logprobs": None, "finish_reason": None, "stop_reason": None}
    given = {name: fields.pop(name) for name in tuple(fields) if name in output}
    whole = {"num_cached_tokens": 2, "prompt_logprobs": None, **fields}
    return SimpleNamespace(outputs=[SimpleNamespace(**output | given, spec_decode_metrics=None)], **whole)


def entry(value: float, rank: int = 1) -> SimpleNamespace:
    """One of vLLM's `Logprob`."""
    return SimpleNamespace(logprob=value, rank=rank, decoded_token=None)


class FakeEngine:
    """What the replica asks of `VllmEngine`, and of vLLM's engine behind it.

    Attributes:
        results: that each branch yields; an error is raised.
        asked: the arguments of each branch.

    """

    card = SimpleNamespace(name="m", max_model_len=100, max_branches=2, adapter_slots=3, peak_flops=1e9)

    def __init__(self, *results) -> None:
        self.results = results
        self.asked: list[tuple] = []
        self.held: dict[int, EngineAdapter] = {}
        self.failure: str | None = None

    def running(self) -> "FakeEngine":
        return self

    async def generate(self, given, sampling, request_id, **others):
        self.asked.append((given, sampling, request_id, others))
        for one in self.results:
            if isinstance(one, Exception):
                raise one
            yield one

    async def load_adapter(self, adapter: EngineAdapter) -> None:
        await asyncio.sleep(0)
        if adapter.path == "/bad":
            raise AdapterFailed("No.")
        self.held[adapter.id] = adapter

    async def unload_adapter(self, adapter: EngineAdapter) -> None:
        del self.held[adapter.id]


@pytest.fixture
def over():
    """`over(*results)`: a replica over a fake engine, and the engine."""
    from app.engine.vllm.own_replica import VllmReplica

    def over(*results):
        engine = FakeEngine(*results)
        return VllmReplica("a", engine), engine

    return over


def asked(**fields) -> TokenRequest:
    """A branch."""
    return TokenRequest(**{"id": "r-0", "token_ids": (1, 2, 3), "sampling": {"max_tokens": 5, "temperature": 0.5}} | fields)


async def parts_of(replica, request: TokenRequest):
    """All parts of a branch."""
    return [part async for part in replica.generate(request)]


async def test_what_vllm_is_asked(over) -> None:
    """Tokens, sampling parameters, how often to tell, and where a grammar begins."""
    replica, engine = over(result(4, finish_reason="stop", stop_reason=4))
    [part] = await parts_of(replica, asked(interval=4, priority=3, cache_salt="s", gate={"reasoning_ended": True}))
    [(given, sampling, request_id, others)] = engine.asked
    assert (given["prompt_token_ids"], given["cache_salt"], request_id) == ([1, 2, 3], "s", "r-0")
    assert (sampling.max_tokens, sampling.temperature, sampling.stream_interval) == (5, 0.5, 4)
    assert (others["priority"], others["reasoning_ended"], others["lora_request"]) == (3, True, None)
    assert (part.token_ids, part.finish_reason, part.stop_reason, part.cached_tokens) == ((4,), "stop", 4, 2)


async def test_log_probabilities_are_as_many_as_were_asked_for(over) -> None:
    """The sampled token first, and all options where they are asked for."""
    rows = [{8: entry(-2.0), 5: entry(-0.1), 6: entry(-1.0)}]
    replica, _ = over(result(8, logprobs=rows, finish_reason="length"))
    for sampling, expected in (
        ({"logprobs": 0}, ((8, -2.0),)),
        ({"logprobs": 2}, ((8, -2.0), (5, -0.1))),
        ({"logprobs": 2, "logprob_token_ids": [5, 6]}, ((8, -2.0), (5, -0.1), (6, -1.0))),
    ):
        [part] = await parts_of(replica, asked(sampling={"max_tokens": 1, **sampling}))
        assert part.positions == (expected,)


async def test_log_probabilities_of_a_prompt(over) -> None:
    """In the form of vLLM's route."""
    replica, _ = over(result(8, prompt_logprobs=[None, {2: entry(-0.5, 3)}], finish_reason="length"))
    [part] = await parts_of(replica, asked(interval=0))
    assert part.prompt_logprobs == [None, {"2": {"logprob": -0.5, "rank": 3, "decoded_token": None}}]


async def test_an_adapter_is_known_by_its_content(over) -> None:
    """Loaded once by two front ends with numbers of their own, and named by a number of the replica's."""
    replica, engine = over(result(4, finish_reason="stop"))
    with pytest.raises(UnknownAdapter):
        await parts_of(replica, asked(adapter=ADAPTER))
    other = EngineAdapter("a#9", 1, "/a", "a:sha")
    await asyncio.gather(replica.load_adapter(ADAPTER), replica.load_adapter(other))
    assert [(one.content, one.path) for one in engine.held.values()] == [("a:sha", "/a")]
    await parts_of(replica, asked(adapter=other))
    assert engine.asked[0][3]["lora_request"].lora_int_id in engine.held
    await replica.unload_adapter(ADAPTER)
    assert not engine.held
    with pytest.raises(AdapterFailed):
        await replica.load_adapter(EngineAdapter("b", 1, "/bad", "b:sha"))
    with pytest.raises(UnknownAdapter):
        await parts_of(replica, asked(adapter=EngineAdapter("b", 1, "/bad", "b:sha")))


async def test_errors_are_those_of_a_replica(over) -> None:
    """A mistake, a branch that failed alone, and a dead engine are told apart."""
    from vllm.v1.engine.exceptions import EngineDeadError

    replica, _ = over(result(4, finish_reason="error"))
    with pytest.raises(RequestFailed):
        await parts_of(replica, asked())
    with pytest.raises(RequestRefused, match="temperature"):
        await parts_of(replica, asked(sampling={"max_tokens": 1, "temperature": -1.0}))
    replica, _ = over(EngineDeadError())
    with pytest.raises(ReplicaFailed):
        await parts_of(replica, asked())


async def test_it_counts_its_branches(over) -> None:
    """Those above what the engine runs at the same time wait."""
    replica, engine = over(result(4, 5), result(6, finish_reason="length"))
    streams = [replica.generate(asked(id=f"r-{number}")) for number in range(3)]
    for one in streams:
        await anext(one)
    assert await replica.load() == ReplicaLoad(2, 1, 6)
    for one in streams:
        await one.aclose()
    assert await replica.load() == ReplicaLoad(0, 0, 6)
    engine.failure = "the engine process died"
    with pytest.raises(ReplicaFailed, match="died"):
        await replica.load()
