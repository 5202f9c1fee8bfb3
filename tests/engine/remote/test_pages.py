"""The metrics of the replicas on this server's page."""

import asyncio

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from app.engine.remote.pages import merged, pages_of
from app.engine.replica import ReplicaFailed

pytestmark = pytest.mark.anyio


def samples(families) -> set[tuple[str, str, float]]:
    """Name, replica and value of each sample."""
    return {(one.name, one.labels["replica"], one.value) for family in families for one in family.samples}


async def test_each_sample_tells_its_replica(fake_replica) -> None:
    """Families of vLLM alone, each once, in both formats; a replica that does not answer is left out."""
    replicas = [fake_replica("http://a:1"), fake_replica("http://b:1"), fake_replica("c", failure=ReplicaFailed("gone"))]
    for is_openmetrics, read in ((False, read_text), (True, read_openmetrics)):
        page = (await pages_of(replicas, is_openmetrics=is_openmetrics)).decode() + "# EOF\n" * is_openmetrics
        assert samples(read(page)) == {
            (name, replica, value)
            for name, value in (("vllm:generation_tokens_total", 12.0), ("vllm:plain", 1.5))
            for replica in ("http://a:1", "http://b:1")
        }
        assert page.count("# TYPE vllm:plain") == 1
        assert 'engine="0"' in page


async def test_a_slow_replica_does_not_hold_up_the_page(fake_replica, monkeypatch) -> None:
    """Who scrapes has a limit too."""
    monkeypatch.setattr("app.engine.remote.pages.PAGE_S", 0.01)
    slow = fake_replica("slow")

    async def metrics() -> bytes:
        await asyncio.sleep(5)

    monkeypatch.setattr(slow, "metrics", metrics)
    assert await pages_of([slow], is_openmetrics=False) == b""


@pytest.mark.parametrize(
    "page",
    [
        "", "\n\n", "<html>", "# TYPE vllm:x counter", "# TYPE vllm:x foo", "# TYPE vllm:x counter extra",
        "# HELP vllm:x\n# TYPE vllm:x gauge",
        *(f"# TYPE vllm:x counter\n{line}\n" for line in (
            "}{", "vllm:x{ 1", 'vllm:x{a="b} 1', 'vllm:x{a="b"} one', "vllm:x{a=b} 1", 'vllm:x{a="\\"} 1', 'vllm:x{replica="z"} 1',
            "vllm:x 1.2.3", "vllm:x 1 2 3", 'vllm:x{a="b"c="d"} 1',
        )),
    ],
)  # fmt: skip
def test_nonsense_leaves_a_readable_page(page) -> None:
    """Whatever a replica sends: the samples of others are on it too."""
    good = "# TYPE vllm:y gauge\n" + 'vllm:y{a="b,\\"}{",} 1.5e-05\n'
    families = list(read_text(merged({"a": page, "b": good}, is_openmetrics=False).decode()))
    assert samples(families) >= {("vllm:y", "b", 1.5e-05)}
