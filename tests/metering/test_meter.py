"""The meter of a request, and the model that spends from it: no budget is exceeded, every token is counted, no branch is left."""

import asyncio
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.admission import Admission
from app.engine.scripted import SMALL, ScriptedEngine
from app.engine.speculation import Drafts, Speculation
from app.errors import EngineDead
from app.metering.budget import Budget
from app.metering.meter import FAIR_SHARE_FLOOR, Meter
from app.request import Caller
from app.serving.leasing import Leases
from app.serving.metered_model import MeteredModel
from app.serving.wave import BranchDefaults
from strategies.core.values import Draw, StopReason

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def metered_model(
    reply="one two three four",
    budget=None,
    *,
    speed=0.0,
    slots=64,
    has_deltas=True,
    max_tokens=512,
    seed=None,
    new_engine=ScriptedEngine,
):
    """Yield a metered model over a scripted engine: (model, meter, engine, prefix). Afterwards nothing may be left running."""
    engine = new_engine(reply if callable(reply) else lambda _prompt, _serial: reply, seconds_per_token=speed)
    meter = Meter(SMALL, budget or Budget(), engine.card.speculation)
    admission = Admission(num_slots=slots, max_branches=1000, max_branches_per_key=1000)
    prompt = await engine.render_chat({"messages": [{"role": "user", "content": "Hi there"}], "max_tokens": max_tokens})
    with admission.admit(Caller("key"), 8) as admitted:
        model = MeteredModel(
            engine, meter, admitted, BranchDefaults("r", prompt, seed, is_streamed=has_deltas), leases=Leases()
        )
        yield model, meter, engine, prompt.token_ids
    assert admission.num_running == admission.num_waiting == 0
    assert not engine.live


async def draw(model, prefix, n, **fields):
    """Draw n candidates and return them in the order in which they complete."""
    async with model.sample(Draw(prefix, n, **fields)) as samples:
        return [candidate async for candidate in samples]


class Drafting(ScriptedEngine):
    """Drafts two tokens in each step but the first. Of each pair the model accepts `accepted`, whatever it generates."""

    def __init__(self, *arguments, accepted=0, **options) -> None:
        super().__init__(*arguments, **options)
        self.card = replace(self.card, speculation=Speculation(None, 2))
        self.accepted = accepted

    async def generate(self, branch):
        count = 0
        async for output in super().generate(branch):
            count += len(output.token_ids)
            steps = max(count - 1, 0)
            yield replace(output, drafts=Drafts(2 * steps, self.accepted * steps)) if output.finish_reason else output


async def test_every_token_is_counted() -> None:
    """Prefilled, cached and decoded tokens of each branch are counted, and FLOPs follow from them."""
    async with metered_model() as (model, meter, _, prefix):
        drawn = await draw(model, prefix, 3)
    assert [candidate.index for candidate in drawn] == [0, 1, 2]
    assert meter.tokens["decoded"] == 12
    assert meter.tokens["prefilled"] + meter.tokens["cached"] == 3 * len(prefix)
    prefill, decode = SMALL.branch_cost(len(prefix), 0, 4)
    assert meter.flops == {"prefill": 3 * prefill, "decode": 3 * decode}
    assert meter.branches["drawn"] == 3


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    tokens=st.integers(min_value=1, max_value=60),
    lengths=st.lists(st.integers(min_value=0, max_value=12), min_size=1, max_size=10),
    slots=st.integers(min_value=1, max_value=4),
    waves=st.integers(min_value=1, max_value=3),
)
async def test_a_token_budget_is_never_exceeded(tokens: int, lengths: list[int], slots: int, waves: int) -> None:
    """It holds to the token, however branches of different lengths interleave, and the meter says when the budget ran out."""

    def reply(_prompt: str, serial: int) -> str:
        return " ".join(["word"] * lengths[serial % len(lengths)])

    async with metered_model(reply, Budget(tokens=tokens), slots=slots, max_tokens=10) as (model, meter, _, prefix):
        for wave in range(waves):
            await draw(model, prefix, len(lengths), first_index=wave * len(lengths))
    wanted = waves * sum(min(length, 10) for length in lengths)
    assert meter.generated_tokens <= tokens
    if wanted > tokens:
        assert meter.stopped is StopReason.TOKENS


@settings(max_examples=40, deadline=None)
@given(flops=st.integers(min_value=1, max_value=10**8), n=st.integers(min_value=1, max_value=6))
async def test_a_flops_budget_is_never_exceeded(flops: int, n: int) -> None:
    """FLOPs are reserved for the worst case, so a branch cannot exceed the budget later."""
    async with metered_model(budget=Budget(flops=flops)) as (model, meter, _, prefix):
        await draw(model, prefix, n)
    assert meter.total_flops <= flops


@pytest.mark.parametrize("has_deltas", [False, True])
@pytest.mark.parametrize("accepted", [0, 1])
async def test_drafted_tokens_are_counted(accepted: int, has_deltas: bool) -> None:
    """The rejected ones are charged to decoding, and to the candidate."""
    async with metered_model(has_deltas=has_deltas, new_engine=partial(Drafting, accepted=accepted)) as drawing:
        model, meter, engine, prefix = drawing
        [candidate] = await draw(model, prefix, 1)
    assert meter.tokens["drafted"] == 2 * 3
    prefill, decode = SMALL.branch_cost(len(prefix), 0, 4)
    extra = engine.card.speculation.extra_cost(SMALL, len(prefix), 0, 4, Drafts(6, 3 * accepted))
    assert extra > 0
    assert meter.flops == {"prefill": prefill, "decode": decode + extra}
    assert candidate.cost.flops == meter.total_flops


@pytest.mark.parametrize("kiloflops", [10, 50, 200, 1000])
async def test_a_flops_budget_holds_with_rejected_drafts(kiloflops: int) -> None:
    """Each branch reserves what it would cost if all of its drafts were rejected."""
    budget = Budget(flops=1000 * kiloflops)
    async with metered_model(budget=budget, new_engine=Drafting) as (model, meter, _, prefix):
        await draw(model, prefix, 5)
    assert meter.total_flops <= budget.flops


async def test_a_short_budget_is_shared_fairly() -> None:
    """Each branch may reserve its share, but never less than the floor."""
    meter = Meter(SMALL, Budget(tokens=2000))
    assert meter.fair_share(1000, 4) == 500
    assert meter.fair_share(1000, 1) == 1000
    assert meter.fair_share(1000, 100) == FAIR_SHARE_FLOOR
    assert Meter(SMALL, Budget()).fair_share(1000, 100) == 1000


async def test_the_tighter_budget_wins() -> None:
    """Each field has the smaller limit of the server's and the caller's."""
    caller, server = Budget(tokens=10, seconds=60), Budget(tokens=5, flops=7, seconds=100)
    assert caller.capped(server) == Budget(tokens=5, flops=7, seconds=60)


async def test_a_deadline_delivers_unfinished_candidates() -> None:
    """Branches that run hand in what they have, and are counted; branches that wait never start."""
    async with metered_model("a b c d e f g h", Budget(seconds=0.1), speed=0.04, slots=3) as (model, meter, engine, prefix):
        drawn = await draw(model, prefix, 4)
        more = await draw(model, prefix, 2)
    assert 1 <= len(drawn) < 4
    assert all(candidate.finish_reason == "abort" and candidate.text for candidate in drawn)
    assert more == []
    assert meter.stopped is StopReason.SECONDS
    assert meter.generated_tokens == sum(len(candidate.token_ids) for candidate in drawn)
    assert len(engine.branches) == len(drawn)


async def test_a_deadline_never_raises_in_the_code_that_consumes_the_candidates() -> None:
    """It passes while the strategy works on the first candidate: the other branches end, the strategy goes on."""

    def reply(_prompt: str, serial: int) -> str:
        return "quick" if serial == 0 else "a b c d e f g h i j k l"

    async with metered_model(reply, Budget(seconds=0.1), speed=0.03) as (model, meter, _, prefix):
        reasons = []
        async with model.sample(Draw(prefix, 2)) as samples:
            async for candidate in samples:
                await asyncio.sleep(0.2)
                reasons.append(candidate.finish_reason)
    assert reasons == ["stop", "abort"]
    assert meter.stopped is StopReason.SECONDS


async def test_the_largest_seed_has_successors() -> None:
    """Candidate i has the seed s + i, within 64 bits."""
    async with metered_model(seed=2**63 - 1) as (model, _, engine, prefix):
        await draw(model, prefix, 2)
    assert sorted(branch.seed for branch in engine.branches) == [-(2**63), 2**63 - 1]


async def test_leaving_early_ends_the_rest_and_counts_it() -> None:
    """When the strategy leaves after the first candidate, the others are halted in the engine and their tokens are booked."""

    def reply(_prompt: str, serial: int) -> str:
        return "quick" if serial == 2 else "a b c d e f g h i j k l m n o p"

    async with metered_model(reply, speed=0.01) as (model, meter, _, prefix):
        async with model.sample(Draw(prefix, 4)) as samples:
            first = await anext(aiter(samples))
        assert first.index == 2
        assert meter.branches == {"drawn": 4, "cancelled": 3}
        assert 1 <= meter.generated_tokens < 20


async def test_cancelling_the_request_ends_its_branches() -> None:
    """After a disconnect nothing is left in the engine when the task has ended, and generated tokens are counted."""
    async with metered_model("a b c d e f g h", speed=0.02) as (model, meter, engine, prefix):
        running = asyncio.create_task(draw(model, prefix, 4))
        await asyncio.sleep(0.07)
        assert len(engine.live) == 4
        running.cancel()
        await asyncio.wait([running])
        assert not engine.live
        assert meter.generated_tokens > 0


async def test_an_error_of_one_branch_is_the_error_of_all() -> None:
    """The error of the dead engine is raised itself, not within exception groups."""
    async with metered_model("a b c d", speed=0.02) as (model, _, engine, prefix):
        running = asyncio.create_task(draw(model, prefix, 4))
        await asyncio.sleep(0.03)
        engine.die()
        with pytest.raises(EngineDead):
            await running


async def test_deltas_come_only_where_somebody_watches() -> None:
    """A request that is not streamed gets whole results from the engine, which cost less."""
    deltas = []
    async with metered_model(has_deltas=True) as (model, _, engine, prefix):
        [whole] = await draw(model, prefix, 1, on_delta=deltas.append)
        assert "".join(delta.text for delta in deltas) == whole.text
        assert engine.branches[0].is_streamed
    async with metered_model(has_deltas=False) as (model, _, engine, prefix):
        await draw(model, prefix, 1, on_delta=deltas.append)
        assert not engine.branches[0].is_streamed


async def test_scoring_options_is_charged_as_verification() -> None:
    """It is one pass over the prefix, and one token."""
    async with metered_model() as (model, meter, _, prefix):
        scores = await model.score_options(prefix, [5, 7])
    assert scores == [-1.0, -2.0]
    assert meter.flops["verify"] > 0
    assert meter.flops["prefill"] == meter.flops["decode"] == 0
    assert meter.tokens["verified"] == len(prefix) + 1


@given(
    st.integers(0, 500),
    st.integers(1, 8),
    st.lists(st.tuples(st.booleans(), st.integers(1, 200), st.integers(0, 200)), max_size=40),
)
def test_shares_of_thinking_are_never_more_than_the_whole(total: int, width: int, moves: list[tuple[bool, int, int]]) -> None:
    """Whatever begins and ends when, and however much of its share it uses. Branches that begin together have equal shares."""
    meter, running, thought = Meter(SMALL, Budget(total_thinking_tokens=total)), [], 0
    for begins, most, use in moves:
        if begins and len(running) < width:
            context = meter.thinking(width, most)
            running.append((context, context.__enter__(), most))
        elif running:
            context, share, limit = running.pop(0)
            share.used = min(use, share.tokens, limit)
            thought += share.used
            context.__exit__(None, None, None)
        assert thought + sum(min(share.tokens, limit) for _, share, limit in running) <= total
    fresh = Meter(SMALL, Budget(total_thinking_tokens=total))
    with ExitStack() as stack:
        shares = [stack.enter_context(fresh.thinking(width, 1000)).tokens for _ in range(width)]
    assert max(shares) - min(shares) <= 1
    assert sum(shares) == total
