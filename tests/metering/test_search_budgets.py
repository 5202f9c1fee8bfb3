"""Every search keeps its budget to the token, leaves nothing running, and answers as soon as any text was generated."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.admission import Admission
from app.engine.scripted import ScriptedEngine
from app.metering.budget import Budget
from app.request import Caller, InferenceRequest, Limits
from app.routing.general import GeneralPolicy
from app.routing.planner import Planner
from app.routing.policies import Policies
from app.search_traces import SearchTraces
from app.serving.accounting import Observers
from app.serving.feedback import Feedback
from app.serving.planning import Planning
from app.serving.service import Service
from app.serving.session import Session
from app.telemetry.metrics import Metrics
from strategies.core.values import StopReason
from strategies.core.verifier import StrategyContext

pytestmark = pytest.mark.anyio

SEARCHES: list[dict[str, Any]] = [
    {"strategy": "beam_search", "n": 4, "expand": 2},
    {"strategy": "beam_search", "n": 4, "expand": 2, "diverse": True, "verifier": "p_true"},
    {"strategy": "tree_of_thoughts", "samples": 3},
    {"strategy": "tree_of_thoughts", "evaluate": "vote", "search": "dfs", "samples": 3},
    {"strategy": "tree_of_thoughts", "generate": "propose", "depth": 3},
    {"strategy": "mcts", "iterations": 6, "workers": 3, "expand": 2},
    {"strategy": "mcts", "iterations": 4, "workers": 3, "expand": 2, "value": "agreement", "widening": 0.5},
    {"strategy": "mcts", "selection": "budget", "workers": 3, "expand": 2},
    {"strategy": "particle_filtering", "n": 4, "tries": 2},
    {"strategy": "sequential_revision", "chains": 2, "attempts": 3, "verifier": "p_true"},
    {"strategy": "self_aggregation", "n": 3, "rounds": 3, "verifier": "tournament"},
]
ids = [" ".join(str(value) for value in search.values()) for search in SEARCHES]
ALL = pytest.mark.parametrize("search", SEARCHES, ids=ids)
QUICK = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def steps_script(text: str, serial: int) -> str:
    """Answer with up to three steps of different lengths and then a number, continuing where the prompt ends."""
    before = text.rpartition("assistant:")[2]
    words = ["many", "words", "of", "a", "step", "that", "goes", "on", "for", "long"]
    rest = [f" {' '.join(words[: 1 + (serial * 3 + step) % 7])};" for step in range(3)] + [f" so {40 + serial % 3}"]
    return "".join(rest[before.count(";") :])


class Run:
    """Runs one request through the service, and checks that nothing is left of it."""

    def __init__(self, context: StrategyContext, *, speed: float = 0.0, slots: int = 8) -> None:
        self.engine = ScriptedEngine(steps_script, seconds_per_token=speed, max_branches=slots)
        self.admission = Admission(num_slots=slots, max_branches=100, max_branches_per_key=100)
        metrics = Metrics()
        self.service = Service(
            self.engine,
            planning=Planning(
                Planner(Policies(Path("/nowhere")), GeneralPolicy.shipped(), self.engine.card, "scripted", None),
                context,
                Limits(64, 100_000, Budget(100_000, None, 600)),
            ),
            admission=self.admission,
            observers=Observers(metrics, SearchTraces(4, 1_000_000), Feedback(None, metrics)),
        )
        self.session: Session | None = None

    async def __call__(self, search: dict[str, Any], budget: Budget):
        parameters = {name: value for name, value in search.items() if name != "strategy"}
        if search["strategy"] not in ("sequential_revision", "self_aggregation"):
            parameters |= {"separator": ";", "step_tokens": 9}
        body = {"messages": [{"role": "user", "content": "What is 17 + 25?"}]}
        request = InferenceRequest(
            id="x", bodies=(body,), is_chat=True, question="?", num_chars=16, kind="math", strategy=search["strategy"],
            parameters=parameters, budget=budget, seed=1,
        )  # fmt: skip
        async with self.service.open(request, Caller("key")) as self.session:
            return await self.session.run(lambda _number, _event: None)

    def assert_nothing_is_left(self) -> None:
        assert not self.engine.live
        assert not self.engine.running
        assert self.admission.num_admitted == self.admission.num_running == self.admission.num_waiting == 0


@pytest.fixture(scope="module")
def context():
    from strategies.answers.equivalence import Equivalence

    equivalence = Equivalence()
    yield StrategyContext(equivalence, 1000)
    equivalence.close()


@ALL
@QUICK
@given(tokens=st.integers(1, 200), slots=st.integers(2, 12))
async def test_a_token_budget_is_kept_to_the_token(search: dict[str, Any], tokens: int, slots: int, context) -> None:
    """Tokens of verifiers count too. When the budget runs out, what was generated until then is the answer."""
    run = Run(context, slots=slots)
    outcome = await run(search, Budget(tokens=tokens))
    meter = run.session.meter
    assert meter.generated_tokens <= tokens
    assert len(outcome.results[0].chosen) == 1
    if outcome.stop_reason is not StopReason.TOKENS:
        assert meter.stopped is None
    run.assert_nothing_is_left()


@ALL
@QUICK
@given(kiloflops=st.integers(100, 60_000))
async def test_a_flops_budget_is_kept(search: dict[str, Any], kiloflops: int, context) -> None:
    """It holds with any share of cached tokens and with any verifier."""
    run = Run(context)
    await run(search, Budget(flops=kiloflops * 1000))
    assert run.session.meter.total_flops <= kiloflops * 1000
    run.assert_nothing_is_left()


@ALL
async def test_a_deadline_ends_a_search_in_the_middle(search: dict[str, Any], context) -> None:
    """The best answer so far is returned soon after the deadline."""
    run = Run(context, speed=0.05)
    async with asyncio.timeout(5):
        outcome = await run(search, Budget(seconds=0.3))
    assert outcome.stop_reason is StopReason.SECONDS
    assert len(outcome.results[0].chosen) == 1
    run.assert_nothing_is_left()


@ALL
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(turns=st.integers(1, 300))
async def test_a_client_that_leaves_ends_everything(search: dict[str, Any], turns: int, context) -> None:
    """It may leave at any moment of the search."""
    run = Run(context, speed=0.001)
    running = asyncio.create_task(run(search, Budget()))
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    run.assert_nothing_is_left()
    assert run.session is None or run.session.meter.generated_tokens >= 0


@ALL
async def test_an_engine_that_dies_raises_one_error(search: dict[str, Any], context) -> None:
    """The error is not within a group, and nothing is left running."""
    from app.errors import EngineDead

    run = Run(context, speed=0.01)
    running = asyncio.create_task(run(search, Budget()))
    while not run.engine.live:  # noqa: ASYNC110 - the engine has no event for it
        await asyncio.sleep(0)
    run.engine.die()
    with pytest.raises(EngineDead):
        await running
    run.assert_nothing_is_left()
