"""The metrics page: it says what prometheus_client would say of the same values, and both of its formats parse."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from app.telemetry.registry import Registry

BOUNDS = (0.5, 1, 2.5)
NAMES = st.text(alphabet=string.ascii_letters + '"\\\n{}=, é', max_size=8)
VALUES = st.floats(min_value=0, max_value=1e18, allow_nan=False)


def samples_of(text: str) -> dict:
    """Return the values on a page by name and labels."""
    families = read_text(text)
    return {(sample.name, frozenset(sample.labels.items())): sample.value for family in families for sample in family.samples}


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES, VALUES)))
def test_the_page_says_what_prometheus_client_says(observed) -> None:
    """Any values under any label values are rendered alike."""
    registry, reference = Registry(), CollectorRegistry()
    ours = (registry.counter("a_total", "A.", ["who"]), registry.histogram("b", "B.", BOUNDS, ["who", "what"]))
    theirs = (
        Counter("ponder_a_total", "A.", ["who"], registry=reference),
        Histogram("ponder_b", "B.", ["who", "what"], buckets=BOUNDS, registry=reference),
    )
    for who, value in observed:
        for counter, histogram in (ours, theirs):
            counter.labels(who).inc(value)
            histogram.labels(who, "x").observe(value)
    expected = samples_of(generate_latest(reference).decode())
    # prometheus_client also exports when each series was made; we do not.
    assert samples_of(registry.render().decode()) == {key: expected[key] for key in expected if "_created" not in key[0]}


def test_openmetrics_carries_the_trace_of_the_last_request_in_each_bucket() -> None:
    """The text format carries no exemplars, since it would not parse with them."""
    registry = Registry()
    histogram = registry.histogram("seconds", "S.", BOUNDS).labels()
    for value, exemplar in ((0.1, ("a", 1.0)), (0.2, ("b", 2.0)), (9, ("c", 3.0)), (0.3, None)):
        histogram.observe(value, exemplar)
    registry.counter("c_total", "C.").labels().inc()
    registry.gauge("g", "G.", lambda: [(("x",), 1)], ["l"])
    page = registry.render(is_openmetrics=True).decode() + "# EOF\n"
    families = {family.name: family for family in read_openmetrics(page)}
    samples = {one.labels["le"]: one.exemplar for one in families["ponder_seconds"].samples if one.exemplar}
    exemplars = {end: (one.labels["trace_id"], one.value, float(one.timestamp)) for end, one in samples.items()}
    assert exemplars == {"0.5": ("b", 0.2, 2.0), "+Inf": ("c", 9, 3.0)}
    assert families["ponder_c"].type == "counter"
    assert families["ponder_g"].samples[0].labels == {"l": "x"}
    assert b"trace_id" not in registry.render()


def test_the_series_of_an_adapter_that_is_forgotten_leave_the_page() -> None:
    """When the adapter comes back, its counters start at zero."""
    registry = Registry()
    family = registry.counter("a_total", "A.", ["adapter", "kind"])
    for adapter in ("x", "y"):
        family.labels(adapter, "k").inc(3)
    registry.forget("adapter", "x")
    assert set(samples_of(registry.render().decode()).values()) == {3}
    assert family.labels("x", "k").value == 0


def test_a_name_cannot_be_registered_twice() -> None:
    """Prometheus would refuse a page with two metrics of one name."""
    registry = Registry()
    registry.counter("a_total", "A.")
    with pytest.raises(ValueError, match="ponder_a_total"):
        registry.gauge("a_total", "A.", lambda: 1)
