"""A collector for each test."""

from collections.abc import Iterator

import pytest

from tests.telemetry.collecting import Collector, collecting


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as one:
        yield one
