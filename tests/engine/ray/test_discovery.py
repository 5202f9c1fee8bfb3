"""Which replicas there are, by what Ray Serve tells."""

from types import SimpleNamespace

import pytest

from app.engine.ray import discovery as discovery_module
from app.engine.ray.discovery import RayDiscovery
from app.engine.ray.scaling import by_branches
from app.engine.replica import ReplicaFailed

pytestmark = pytest.mark.anyio


class Told:
    """What is told, one answer after the other; an error is raised."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)

    async def __call__(self):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return dict.fromkeys(answer)


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """No pauses."""
    monkeypatch.setattr(discovery_module, "PAUSE_S", 0)


async def test_replicas_come_and_go() -> None:
    """Each is found by its name."""
    discovery = RayDiscovery(Told(["a"], ["b", "a"], ["b"], []))
    assert [await discovery.find() for _ in range(4)] == [("a",), ("a", "b"), ("b",), ()]


async def test_the_first_replica_is_waited_for() -> None:
    """Its start is told a moment late."""
    assert await RayDiscovery(Told([], ReplicaFailed("not yet"), ["a"])).find() == ("a",)


async def test_replicas_stay_where_nobody_can_tell() -> None:
    """Ray Serve's controller may be down while they serve."""
    discovery = RayDiscovery(Told(["a"], ReplicaFailed("no controller")))
    assert [await discovery.find() for _ in range(2)] == [("a",), ("a",)]


@pytest.mark.parametrize(
    ("counts", "wanted"), [({}, 1), ({"a": 0.0}, 1), ({"a": 32.0}, 1), ({"a": 33.0}, 2), ({"a": 30.0, "b": 40.0}, 3)]
)
def test_replicas_are_as_many_as_the_branches_need(counts, wanted) -> None:
    """Of all replicas together."""
    context = SimpleNamespace(aggregated_metrics={"branches": counts}, config=SimpleNamespace(target_ongoing_requests=32))
    assert by_branches(context) == (wanted, {})
