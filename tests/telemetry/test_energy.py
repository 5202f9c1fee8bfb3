"""Energy: joules are read from the machine's counters, shared among requests by FLOPs, and absent where there are no counters."""

from pathlib import Path

import pytest

from app.engine.architecture import Architecture
from app.metering.budget import Budget
from app.metering.meter import Meter
from app.search_traces import SearchTrace
from app.telemetry.energy import Energy, Nvml, Rapl, find_counters
from app.telemetry.metrics import Metrics, PlanLabels
from app.telemetry.request_metrics import RequestLabels

MODEL = Architecture.dense(
    num_layers=2, hidden_size=8, num_heads=2, num_kv_heads=1, head_dim=4, intermediate_size=16, vocab_size=32
)  # fmt: skip
SHARED = "ponder_request_energy_joules_total"


class Fixed:
    """An `EnergyCounter` whose readings the tests pass to `Energy.count` themselves."""

    source = "rapl"

    def read(self) -> float:
        return 0.0


def package(root: Path, name: str, microjoules: int, most: int = 1000, zone: str = "package-0") -> Path:
    """Make a folder as Linux shows a processor package, or another RAPL zone."""
    folder = root / name
    folder.mkdir(exist_ok=True)
    (folder / "name").write_text(f"{zone}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder


def spend(metrics: Metrics, strategy: str, flops: int) -> None:
    """Run a request that spends so many FLOPs."""
    meter = Meter(MODEL, Budget())
    meter.flops["decode"] = flops
    with metrics.request(
        RequestLabels(strategy, "m"), PlanLabels("caller", "0", "low"), meter, SearchTrace("id", "m", strategy)
    ):
        pass


def joules(metrics: Metrics) -> dict[str, float]:
    """Return the joules of the requests by strategy."""
    lines = [line for line in metrics.registry.render().decode().splitlines() if line.startswith(SHARED)]
    return {line.split('strategy="')[1].split('"')[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_packages_are_found_and_their_parts_are_not_counted_twice(tmp_path) -> None:
    """Only packages count, and a package whose file may not be read is left out."""
    package(tmp_path, "intel-rapl:0", 10)
    package(tmp_path, "intel-rapl:0:0", 5, zone="core")
    package(tmp_path, "intel-rapl:2", 20, zone="psys")
    package(tmp_path, "intel-rapl:1", 10)
    (tmp_path / "intel-rapl:1" / "energy_uj").unlink()
    assert [counter.source for counter in find_counters(tmp_path)] == ["rapl"]
    assert find_counters(tmp_path / "nothing") == []


def test_a_counter_that_turns_over_loses_nothing(tmp_path) -> None:
    """RAPL's counter starts at zero again when it passes its range."""
    counter = Rapl(package(tmp_path, "intel-rapl:0", 900))
    package(tmp_path, "intel-rapl:0", 100)
    assert counter.read() == pytest.approx(200e-6)
    package(tmp_path, "intel-rapl:0", 150)
    assert counter.read() == pytest.approx(50e-6)


def test_a_gpu_counts_millijoules() -> None:
    """A driver that is loaded again starts at zero; that step back counts as nothing."""
    readings = iter([1000, 3500, 0, 500])
    counter = Nvml(lambda: next(readings))
    assert [counter.read() for _ in range(3)] == [2.5, 0.0, 0.5]


def test_energy_is_shared_by_flops() -> None:
    """Each reading goes to the requests that spent FLOPs since the reading before it."""
    metrics = Metrics()
    energy = Energy([Fixed(), Fixed()], metrics)
    spend(metrics, "direct", 100)
    spend(metrics, "mcts", 300)
    energy.count([2.0, 6.0])
    spend(metrics, "direct", 100)
    energy.count([1.0, 0.0])
    assert joules(metrics) == {"direct": pytest.approx(3.0), "mcts": pytest.approx(6.0)}
    assert 'ponder_energy_joules_total{source="rapl"} 9.0' in metrics.registry.render().decode()


def test_a_long_request_gets_the_energy_from_before_it_was_booked_and_idle_energy_goes_to_nobody() -> None:
    """The meter books the FLOPs when a branch ends; energy counted before that waits for them."""
    metrics = Metrics()
    energy = Energy([Fixed()], metrics)
    energy.count([50.0])  # nothing runs
    meter = Meter(MODEL, Budget())
    with metrics.request(RequestLabels("mcts", "m"), PlanLabels("caller", "0", "low"), meter, SearchTrace("id", "m", "mcts")):
        energy.count([3.0])
        energy.count([4.0])
        meter.flops["decode"] = 10
    energy.count([1.0])
    assert joules(metrics) == {"mcts": pytest.approx(8.0)}


def test_a_long_search_beside_short_requests_gets_its_share() -> None:
    """A reading is shared by the FLOPs since the last one, also with requests that have not ended."""
    metrics = Metrics()
    energy = Energy([Fixed()], metrics)
    meter = Meter(MODEL, Budget())
    with metrics.request(RequestLabels("mcts", "m"), PlanLabels("caller", "0", "low"), meter, SearchTrace("id", "m", "mcts")):
        for _ in range(3):
            meter.flops["decode"] += 90
            spend(metrics, "direct", 10)
            energy.count([10.0])
    assert joules(metrics) == {"mcts": pytest.approx(27.0), "direct": pytest.approx(3.0)}


@pytest.mark.anyio
async def test_a_machine_without_counters_shows_none(serve) -> None:
    """The metric is absent, not zero."""
    async with serve() as served:
        await served.chat()
        page = (await served.client.get("/metrics")).text
    assert ("energy_joules" in page) == bool(find_counters())
