"""Sending spans: a collector that fails, hangs or does not exist, and what the log says about it."""

import asyncio
import logging
import subprocess
import sys
import threading
import time

import pytest
from pydantic import ValidationError

from app.settings import Settings, values
from tests.telemetry.collecting import SAMPLED, ask, logged, until

pytestmark = pytest.mark.anyio


async def test_a_failing_collector_is_logged_once_and_does_not_disturb_requests(serve, collector, caplog, monkeypatch) -> None:
    """The log has one line when it fails and one when it works again. The end of the server does not wait for it."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    collector.status = 401
    with caplog.at_level(logging.INFO):
        async with serve(otlp_endpoint=collector.url, trace_sample_ratio=1) as served:
            for _ in range(5):
                assert (await ask(served)).status_code == 200
                await asyncio.sleep(0.1)
            await until(lambda: len(collector.paths) >= 3)
            collector.status = 200
            while not collector.bodies:
                await ask(served)
                await asyncio.sleep(0.05)
    lines = logged(caplog)
    assert len(lines) == 2
    assert "401" in lines[0]
    assert lines[1].endswith("again")


@pytest.mark.parametrize("is_there", [True, False])
async def test_no_client_writes_the_reason_into_the_log(serve, collector, caplog, monkeypatch, is_there: bool) -> None:
    """OpenTelemetry logs what is wrong with a caller's headers while a batch fails; that must not be logged as the reason."""
    from app.telemetry import otel

    monkeypatch.setattr(otel, "EXPORT_S", 5.0)
    monkeypatch.setattr(otel, "FLUSH_S", 1.0)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    collector.status, collector.pause = 401, 0.2
    with caplog.at_level(logging.DEBUG):
        async with serve(otlp_endpoint=collector.url if is_there else "http://127.0.0.1:9", trace_sample_ratio=1) as served:
            while not logged(caplog):
                assert (await ask(served, {**SAMPLED, "tracestate": "EVIL-CLIENT-TEXT"})).status_code == 200
                await asyncio.sleep(0.01)  # lets the exporter's thread run; without it, the reason would be a time-out
    lines = logged(caplog)
    assert ("401" if is_there else "refused") in lines[0]
    assert "EVIL" not in "".join(lines)


async def test_a_collector_that_hangs_delays_the_end_only_briefly(serve, collector, monkeypatch) -> None:
    """The last spans are lost."""
    from app.telemetry import otel

    monkeypatch.setattr(otel, "FLUSH_S", 1.0)
    collector.pause = 3.0
    async with serve(otlp_endpoint=collector.url, trace_sample_ratio=1) as served:
        await ask(served)
        start = time.monotonic()
    assert time.monotonic() - start < 2.5


async def test_an_export_that_is_given_up_writes_nothing_past_the_log(serve, collector, capsys, monkeypatch) -> None:
    """A message to standard error, after the log is closed, would not be a line of JSON."""
    from app.telemetry import otel

    monkeypatch.setattr(otel, "FLUSH_S", 1.0)
    collector.status = 503
    async with serve(otlp_endpoint=collector.url, trace_sample_ratio=1) as served:
        await ask(served)
    await until(lambda: not any(thread.name == "tracing-flush" for thread in threading.enumerate()))
    assert collector.paths
    assert capsys.readouterr().err == ""


def test_a_server_without_a_collector_does_not_import_opentelemetry() -> None:
    """This holds with the scripted engine; vLLM imports OpenTelemetry itself."""
    script = """
import asyncio, sys, tempfile
from pathlib import Path
from app.engine.scripted import ScriptedEngine, cycle
from app.main import create_app
from app.settings import Settings
here = Path(tempfile.mkdtemp())
app = create_app(Settings(adapter_dir=here, policy_dir=here, shipped_adapters=False), ScriptedEngine(cycle(["42"])))
async def main():
    async with app.router.lifespan_context(app):
        print([name for name in sys.modules if name.startswith("opentelemetry")])
asyncio.run(main())
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert run.stdout == "[]\n", run.stderr


def test_a_collector_without_the_extra_stops_the_start_in_one_line(monkeypatch) -> None:
    """The line says what to install."""
    monkeypatch.setattr(values, "find_spec", lambda _name: None)
    with pytest.raises(ValidationError, match=r"pip install 'ponder\[trace\]'"):
        Settings(otlp_endpoint="http://127.0.0.1:4318")


@pytest.mark.parametrize(
    "url", ["collector:4318", "ftp://collector", "http://user:password@collector", "http://collector?key=1"]
)
def test_a_collector_is_a_plain_url(url: str) -> None:
    """A collector's URL holds no user, password or query: secrets do not belong there."""
    with pytest.raises(ValidationError):
        Settings(otlp_endpoint=url)
