"""How much of their prefixes searches find in the caches of replicas: of one, of two, and of two where each branch goes anywhere."""

import asyncio
import random
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app.engine.build import engine_options
from app.engine.remote.options import FleetOptions
from app.request import Caller, InferenceRequest
from app.settings import Settings
from benchmarks import servers
from benchmarks.report import Table
from benchmarks.searches import QUESTIONS
from strategies.core.values import AnswerKind

PLANS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("beam_search", {"n": 8, "expand": 4, "step_tokens": 32}),
    ("mcts", {"iterations": 16, "expand": 2, "step_tokens": 32}),
    ("tree_of_thoughts", {}),
    ("self_consistency", {"n": 8}),
)


def run(*, is_quick: bool) -> Table:
    """Run the same searches over each fleet, four at a time, each with a system prompt of its own, so that nothing is cached before."""
    table = Table("prefix_hits", "Tokens of prefixes that were found in the cache of a replica, blocks of 32 tokens")
    questions = QUESTIONS[: 2 if is_quick else 6]
    with servers.vllm() as one, servers.vllm() as two:
        for serial, (what, urls, is_random) in enumerate(
            (
                ("one replica", (one.url,), False),
                ("two replicas", (one.url, two.url), False),
                ("two replicas, branches anywhere", (one.url, two.url), True),
            )
        ):
            counted = asyncio.run(_measure(urls, questions, serial, is_random=is_random))
            cells = {name: f"{of['cached'] / (of['cached'] + of['prefilled']):.1%}" for name, of in counted.items()}
            table.rows.append({"fleet": what, **cells})
    return table


async def _measure(
    urls: tuple[str, ...], questions: tuple[str, ...], serial: int, *, is_random: bool
) -> dict[str, Counter[str]]:
    """Return the tokens of prefixes by strategy, `cached` and `prefilled`."""
    settings = Settings(adapter_slots=0, shipped_adapters=False)
    options = engine_options(settings)
    from app.engine.remote.engine import RemoteEngine  # noqa: PLC0415 - vLLM reads the environment that `engine_options` prepares
    from app.engine.remote.vllm_server import VllmServer  # noqa: PLC0415
    from app.lifespan import running  # noqa: PLC0415

    engine = RemoteEngine(options, FleetOptions(urls=urls), lambda url: VllmServer(url, ("smollm2-135m",)))
    if is_random:
        engine._placement.place = lambda _branch, members: random.choice(members)  # type: ignore[method-assign]
    counted: dict[str, Counter[str]] = {name: Counter() for name, _ in PLANS}
    gate = asyncio.Semaphore(4)

    with TemporaryDirectory() as folder:
        own = settings.model_copy(update={"adapter_dir": Path(folder), "policy_dir": Path(folder)})
        async with running(own, engine) as pools, asyncio.TaskGroup() as group:

            async def one(strategy: str, parameters: dict[str, Any], number: int, question: str) -> None:
                system = f"Fleet {serial}, {strategy}, question {number}. Think step by step."
                body = {
                    "messages": [{"role": "system", "content": system}, {"role": "user", "content": question}],
                    "max_tokens": 200,
                    "seed": number,
                }
                request = InferenceRequest(
                    id=f"{strategy}-{number}", bodies=(body,), is_chat=True, question=question, num_chars=len(question),
                    strategy=strategy, parameters=parameters, seed=number, kind=AnswerKind.MATH,
                )  # fmt: skip
                async with gate, pools.first.open(request, Caller("one")) as session:
                    await session.run(lambda _number, _event: None)
                    counted[strategy].update({kind: session.meter.tokens[kind] for kind in ("cached", "prefilled")})

            for strategy, parameters in PLANS:
                for number, question in enumerate(questions):
                    group.create_task(one(strategy, parameters, number, question))
    return counted
