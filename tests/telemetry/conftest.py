"""Fixtures of the telemetry tests."""

from collections.abc import Iterator

import pytest

from tests.telemetry.collecting import Collector, collecting


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Run an OpenTelemetry collector for the length of a test."""
    with collecting() as one:
        yield one
