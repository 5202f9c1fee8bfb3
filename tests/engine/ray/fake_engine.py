"""An engine without a model for replicas on a real Ray, which starts at once. Ray imports this module in its own processes."""

from tests.engine.conftest import FakeReplica


async def begin(name: str) -> FakeReplica:
    """Return a replica whose branches generate a token every few milliseconds."""
    return FakeReplica(name, seconds_per_token=0.005)
