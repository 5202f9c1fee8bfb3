"""What tests of several base models share: a server with two of them."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.engine.architecture import Architecture
from app.engine.base import Branch, Output
from app.engine.scripted import ScriptedEngine, cycle
from app.main import create_app
from app.settings import Settings
from tests.conftest import Served

BIG = Architecture.dense(
    num_layers=4, hidden_size=128, num_heads=8, num_kv_heads=4, head_dim=16, intermediate_size=256, vocab_size=1000
)
AWAY = {"model": "/models/big", "replicas": ["http://127.0.0.1:9"]}
VOTE = {"strategy": "best_of_n", "n": 4, "verifier": {"judge": "big"}}


class Critic(ScriptedEngine):
    """Believes in an answer with 42 in it."""

    outage: str | None = None
    error: Exception | None = None
    """What a branch fails with."""
    believes: Mapping[str, float] | None = None
    """The log-probabilities of A and B, whatever is asked; None for its own."""

    async def generate(self, branch: Branch) -> AsyncIterator[Output]:
        """Answer from the script; of two options, prefer the first one where the prompt has 42."""
        own = (0.0, -3.0) if "42" in self.decode(branch.prefix) else (-3.0, 0.0)
        said = own if self.believes is None else tuple(self.believes.values())
        if self.error is not None:
            raise self.error
        async for output in super().generate(branch):
            yield replace(output, option_logprobs=dict(zip(branch.options, said, strict=False)))


Models = Callable[..., AbstractAsyncContextManager[tuple[Served, Critic]]]


@pytest.fixture
def serve_two(tmp_path: Path) -> Models:
    """`async with serve_two(some_setting=…) as (served, big)`: the models `scripted` and `big`, the second one four times as costly."""

    @asynccontextmanager
    async def served(
        *, small_slots: int = 64, big_slots: int = 64, adapter_slots: int = 4, slow: float = 0.0, **settings: Any
    ) -> AsyncIterator[tuple[Served, Critic]]:
        small = ScriptedEngine(
            cycle(["It is 41.", "It is 42.", "It is 43.", "It is 44."]), max_branches=small_slots, adapter_slots=adapter_slots
        )
        big = Critic(cycle(["So it is 42."]), max_branches=big_slots, adapter_slots=adapter_slots, seconds_per_token=slow)
        big.card = replace(big.card, name="big", architecture=BIG)
        usual = {"adapter_dir": tmp_path / "adapters", "policy_dir": tmp_path / "policies", "shipped_adapters": False}
        app = create_app(Settings(model="scripted", pools={"big": AWAY}, **{**usual, **settings}), small, big)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            yield Served(app, small, client), big

    return served
