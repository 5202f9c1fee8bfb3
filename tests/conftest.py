"""What all tests share: an app over a scripted engine, and clients for it; for tests marked `vllm` only, a server on real vLLM."""

import gc
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from app.engine.scripted import Script, ScriptedEngine, cycle
from app.main import create_app
from app.settings import Settings
from strategies.plugins import load_registries
from tests.server import ForkedServer, FrontEnds, Replica, Server
from tests.tools import ROOT
from tests.valkey import Valkey

MATH = ["It is 42.", "So the answer is 42.", "17 + 25 = 42", "I say 41.", "42"]


def pytest_configure(config: pytest.Config) -> None:
    """Give each process that runs tests on real vLLM its share of the processors: an engine that must share one is many times slower."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and config.option.markexpr != "not vllm":
        number, count = int(worker.removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        processors = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, processors[number % len(processors) :: count])


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave a file without tests of the half that is asked for, since importing all files takes a minute."""
    half = config.option.markexpr
    if half not in {"vllm", "not vllm"} or collection_path.suffix != ".py":
        return None
    text = collection_path.read_text(encoding="utf-8")
    has_only_vllm = re.search(r"^pytestmark = .*\bmark\.vllm\b", text, re.MULTILINE)
    return (half == "not vllm" if has_only_vllm else half == "vllm" and "mark.vllm" not in text) or None


class Served:
    """An app with its engine and a client that speaks to it in process."""

    def __init__(self, app: FastAPI, engine: ScriptedEngine, client: httpx.AsyncClient) -> None:
        self.app, self.engine, self.client = app, engine, client

    async def chat(self, content: str = "What is 17 + 25?", **fields: object) -> httpx.Response:
        """Ask one question."""
        body = {"model": "scripted", "messages": [{"role": "user", "content": content}], **fields}
        return await self.client.post("/v1/chat/completions", json=body)


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture
def seconds() -> Callable[[Callable[[], object]], float]:
    """`seconds(work)` of processor time, the least of three, without collections of what other tests have left."""

    def once(work: Callable[[], object]) -> float:
        gc.disable()
        try:
            start = time.process_time()
            work()
            return time.process_time() - start
        finally:
            gc.enable()

    return lambda work: min(once(work) for _ in range(3))


@pytest.fixture
def reads_in_linear_time(seconds) -> Callable[[Callable[[str], object], str], bool]:
    """`reads_in_linear_time(read, text)`: the text costs less than ten times its first quarter; in quadratic time it is sixteen times."""
    return lambda read, text: seconds(lambda: read(text)) < 0.1 + 10 * seconds(lambda: read(text[: len(text) // 4]))


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Restores loggers that a command has configured in this process: their handlers write to a stream that ends with the test."""
    loggers = [logging.getLogger(name) for name in ("ponder", "uvicorn", "vllm")]
    before = [(list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """`async with serve(replies, seconds_per_token=…, some_setting=…) as served`."""

    @asynccontextmanager
    async def served(
        script: Script | list[str] = MATH,
        *,
        seconds_per_token: float = 0.0,
        max_branches: int = 64,
        adapter_slots: int = 4,
        thinking: tuple[str, str] | None = None,
        opens_thinking: bool = True,
        max_images: int = 0,
        **settings: object,
    ) -> AsyncIterator[Served]:
        engine = ScriptedEngine(
            cycle(script) if isinstance(script, list) else script,
            seconds_per_token=seconds_per_token,
            max_branches=max_branches,
            adapter_slots=adapter_slots,
            thinking=thinking,
            opens_thinking=opens_thinking,
            max_images=max_images,
        )
        usual = {"adapter_dir": tmp_path / "adapters", "policy_dir": tmp_path / "policies", "shipped_adapters": False}
        chosen = Settings(**{**usual, **settings})
        registries = load_registries(chosen.plugins, has_entry_points=False)  # whatever else is installed here
        app = create_app(chosen, engine, registries=registries)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            yield Served(app, engine, client)

    return served


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A running server that keeps nothing on disk."""
    server = Valkey(tmp_path / "valkey")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server on real vLLM that most tests marked `vllm` share, since each start takes long. It has the example's plugin.

    With `REPLICAS=2` in the environment it is two front ends over so many `vllm serve` processes (`make test-replicas`). They share a
    Valkey, and tests use them in turn.
    """
    folder = tmp_path_factory.mktemp("server")
    plugins = ("--plugin", "ponder_example.strategy:FirstGood", "--plugin", "ponder_example.verifier:Brief")
    kept = ("--kv-cache-gib", "1", "--feedback-path", str(folder / "feedback.jsonl"))
    variables = {"PYTHONPATH": str(ROOT / "examples" / "plugin")}
    replicas = [Replica(number, log=folder / f"replica-{number}") for number in range(int(os.environ.get("REPLICAS", "0")))]
    for one in replicas:
        one.wait()
    if not replicas:
        server = ForkedServer(
            *plugins, *kept, "--policy-dir", str(folder / "policies"), log=folder / "log", variables=variables
        )
        server.wait()
        yield server
        assert server.stop() == 0
        return
    valkey = Valkey(folder / "valkey")
    valkey.start()
    over = [word for one in replicas for word in ("--replica", one.url)] + ["--shared-state-url", valkey.url]
    over += ["--adapter-store-url", f"file://{folder}/objects"]
    two = [
        ForkedServer(
            *plugins,
            *kept,
            *over,
            "--policy-dir",
            str(folder / f"policies-{number}"),
            log=folder / f"log-{number}",
            variables=variables,
        )
        for number in range(2)
    ]
    for one in two:
        one.wait()
    yield FrontEnds(two)
    assert [one.stop() for one in two] == [0, 0]
    for one in replicas:
        one.stop()
    valkey.kill()
