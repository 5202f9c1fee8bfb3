"""The page that Prometheus reads: what prometheus_client would say of the same, and what both formats ask for."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read

from app.telemetry.registry import Page

BOUNDS = (0.5, 1, 2.5)
NAMES = st.text(alphabet=string.ascii_letters + '"\\\n{}=, é', max_size=8)
VALUES = st.floats(min_value=0, max_value=1e18, allow_nan=False)


def told(text: str) -> dict:
    """Values by name and labels."""
    return {(sample.name, frozenset(sample.labels.items())): sample.value for family in read(text) for sample in family.samples}


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES, VALUES)))
def test_the_page_says_what_prometheus_client_says(seen) -> None:
    """Whatever is counted, by whatever labels."""
    page, registry = Page(), CollectorRegistry()
    ours = (page.counter("a_total", "A.", ["who"]), page.histogram("b", "B.", BOUNDS, ["who", "what"]))
    theirs = (
        Counter("ponder_a_total", "A.", ["who"], registry=registry),
        Histogram("ponder_b", "B.", ["who", "what"], buckets=BOUNDS, registry=registry),
    )
    for who, value in seen:
        for one, other in (ours, theirs):
            one.labels(who).inc(value)
            other.labels(who, "x").observe(value)
    expected = {key: value for key, value in told(generate_latest(registry).decode()).items() if "_created" not in key[0]}
    assert told(page.render().decode()) == expected


def test_openmetrics_carries_the_trace_of_the_last_request_in_each_bucket() -> None:
    """The text format has none: it would not parse."""
    page = Page()
    spread = page.histogram("seconds", "S.", BOUNDS).labels()
    for value, trace in ((0.1, ("a", 1.0)), (0.2, ("b", 2.0)), (9, ("c", 3.0)), (0.3, None)):
        spread.observe(value, trace)
    page.counter("c_total", "C.").labels().inc()
    page.gauge("g", "G.", lambda: [(("x",), 1)], ["l"])
    families = {family.name: family for family in read_open(page.render(is_open=True).decode() + "# EOF\n")}
    exemplars = {one.labels["le"]: one.exemplar for one in families["ponder_seconds"].samples if one.exemplar}
    told = {end: (one.labels["trace_id"], one.value, float(one.timestamp)) for end, one in exemplars.items()}
    assert told == {"0.5": ("b", 0.2, 2.0), "+Inf": ("c", 9, 3.0)}
    assert families["ponder_c"].type == "counter"
    assert families["ponder_g"].samples[0].labels == {"l": "x"}
    assert b"trace_id" not in page.render()


def test_a_name_that_is_gone_takes_its_series_with_it() -> None:
    """And comes back at zero."""
    page = Page()
    family = page.counter("a_total", "A.", ["adapter", "kind"])
    for adapter in ("x", "y"):
        family.labels(adapter, "k").inc(3)
    page.forget("adapter", "x")
    assert set(told(page.render().decode()).values()) == {3}
    assert family.labels("x", "k").value == 0


def test_two_families_of_one_name_are_a_mistake() -> None:
    """Prometheus would refuse the whole page."""
    page = Page()
    page.counter("a_total", "A.")
    with pytest.raises(ValueError, match="ponder_a_total"):
        page.gauge("a_total", "A.", lambda: 1)
