"""Counters, gauges and histograms, and the page on which Prometheus reads them.

prometheus_client is not used, because the page is long: with a hundred adapters and every strategy it has about forty thousand
lines. prometheus_client formats every line anew at each scrape, which takes a third of a second and stops the event loop for as
long. Here each series prepares its lines when it is made, and a scrape only puts in the numbers: about ten times faster.

Everything here is used from the event loop's thread alone, so there are no locks.

The page has one of two formats: Prometheus' text format 0.0.4, or OpenMetrics 1.0, which also carries exemplars.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

TEXT = "text/plain; version=0.0.4; charset=utf-8"
"""Content type of Prometheus' text format."""

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
"""Content type of OpenMetrics."""

Samples = Iterable[tuple[Sequence[str], float]]
"""The values of a gauge, each with the values of its labels."""

Number = int | float


class Series(ABC):
    """One time series: a metric with one combination of label values."""

    @abstractmethod
    def lines(self, *, is_openmetrics: bool) -> Iterator[str]:
        """Yield the lines of this series, in OpenMetrics or in the text format."""


class Counter(Series):
    """A sum that only grows.

    Args:
        name: of the metric, with its prefix.
        labels: what stands between the braces, for example `model="m",kind="decoded"`; empty for a metric without labels.

    """

    __slots__ = ("_line", "value")

    def __init__(self, name: str, labels: str) -> None:
        self.value: Number = 0
        self._line = f"{name}{{{labels}}} " if labels else f"{name} "

    def inc(self, amount: Number = 1) -> None:
        """Add a number that is not negative."""
        self.value += amount

    def lines(self, *, is_openmetrics: bool) -> Iterator[str]:  # noqa: ARG002 - both formats agree
        """Yield the one line of this counter."""
        yield f"{self._line}{float(self.value)!r}\n"


class Histogram(Series):
    """Counts values in buckets. Each bucket remembers the last request that fell into it, as an exemplar.

    Args:
        name: of the metric, with its prefix.
        labels: what stands between the braces, without `le`; empty for a metric without labels.
        bounds: the upper ends of the buckets, ascending. A last bucket without an end is added.

    """

    __slots__ = ("_bounds", "_counts", "_exemplars", "_heads", "_last", "total")

    def __init__(self, name: str, labels: str, bounds: tuple[float, ...]) -> None:
        self.total = 0.0
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._exemplars: dict[int, tuple[float, tuple[str, float]]] = {}
        before = f"{labels}," if labels else ""
        ends = [*(repr(float(bound)) for bound in bounds), "+Inf"]
        self._heads = [f'{name}_bucket{{{before}le="{end}"}} ' for end in ends]
        braced = f"{{{labels}}}" if labels else ""
        self._last = (f"{name}_count{braced} ", f"{name}_sum{braced} ")

    def observe(self, value: float, exemplar: tuple[str, float] | None = None) -> None:
        """Count a value. `exemplar` is the trace id of the request that it belongs to, and the time in seconds since 1970."""
        place = bisect_left(self._bounds, value)
        self._counts[place] += 1
        self.total += value
        if exemplar is not None:
            self._exemplars[place] = value, exemplar

    def lines(self, *, is_openmetrics: bool) -> Iterator[str]:
        """Yield the lines of the cumulative buckets, of the count and of the sum."""
        # The text format has no exemplars: Prometheus would refuse the whole page.
        exemplars = {place: _exemplar(*one) for place, one in self._exemplars.items()} if is_openmetrics else {}
        num = 0
        for place, (head, num) in enumerate(zip(self._heads, accumulate(self._counts), strict=True)):
            yield f"{head}{num}.0{exemplars.get(place, '')}\n"
        count, total = self._last
        yield f"{count}{num}.0\n{total}{self.total!r}\n"


S = TypeVar("S", bound=Series)


class MetricFamily(Generic[S]):
    """All series of one metric, by the values of their labels.

    Args:
        name: of the metric, with its prefix.
        text: the HELP line.
        kind: `counter` or `histogram`.
        labels: the names of the labels.
        make: makes a series from the name and from what stands between its braces.

    """

    def __init__(self, name: str, text: str, kind: str, labels: Sequence[str], make: Callable[[str, str], S]) -> None:
        self.name = name
        self._text = text
        self._kind = kind
        self._labels = tuple(labels)
        self._make = make
        self._series: dict[tuple[str, ...], S] = {}

    def labels(self, *values: str) -> S:
        """Return the series with these label values, in the order of the label names. It is made when it is asked for first."""
        if (found := self._series.get(values)) is None:
            found = self._series[values] = self._make(self.name, _braced(self._labels, values))
        return found

    def forget(self, label: str, value: str) -> None:
        """Drop all series whose `label` has this value. A metric without that label keeps all its series."""
        if label in self._labels:
            place = self._labels.index(label)
            self._series = {values: one for values, one in self._series.items() if values[place] != value}

    @property
    def description(self) -> tuple[str, str, tuple[str, ...], str]:
        """Name, kind, label names and help."""
        return self.name, self._kind, self._labels, self._text

    def lines(self, *, is_openmetrics: bool) -> Iterator[str]:
        """Yield the HELP and TYPE lines, then the lines of all series."""
        yield from _head(self.name, self._text, self._kind, is_openmetrics=is_openmetrics)
        for one in self._series.values():
            yield from one.lines(is_openmetrics=is_openmetrics)


class Gauge:
    """A metric whose values are read at each scrape.

    Args:
        name: of the metric, with its prefix.
        text: the HELP line.
        labels: the names of the labels.
        read: returns the values of all series.

    """

    def __init__(self, name: str, text: str, labels: Sequence[str], read: Callable[[], Samples]) -> None:
        self.name = name
        self._text = text
        self._labels = tuple(labels)
        self._read = read

    @property
    def description(self) -> tuple[str, str, tuple[str, ...], str]:
        """Name, kind, label names and help."""
        return self.name, "gauge", self._labels, self._text

    def lines(self, *, is_openmetrics: bool) -> Iterator[str]:
        """Yield the HELP and TYPE lines, then the present value of each series."""
        yield from _head(self.name, self._text, "gauge", is_openmetrics=is_openmetrics)
        for values, value in self._read():
            labels = _braced(self._labels, values)
            yield f"{self.name}{{{labels}}} {float(value)!r}\n" if labels else f"{self.name} {float(value)!r}\n"


M = TypeVar("M", MetricFamily[Counter], MetricFamily[Histogram], Gauge)


class Registry:
    """All metrics of one server. Each name gets the prefix `ponder_`.

    The prefix must not be `vllm:`: vLLM unregisters every collector of that name when it starts.
    """

    def __init__(self) -> None:
        self._metrics: dict[str, MetricFamily[Counter] | MetricFamily[Histogram] | Gauge] = {}

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> MetricFamily[Counter]:
        """Register counters. `name` ends in `_total`; raises `ValueError` when it is taken."""
        return self._add(MetricFamily(f"ponder_{name}", text, "counter", labels, Counter))

    def histogram(self, name: str, text: str, bounds: Sequence[float], labels: Sequence[str] = ()) -> MetricFamily[Histogram]:
        """Register histograms. `bounds` are the upper ends of the buckets; raises `ValueError` when the name is taken."""
        ends = tuple(bounds)
        return self._add(
            MetricFamily(f"ponder_{name}", text, "histogram", labels, lambda full, braced: Histogram(full, braced, ends))
        )

    def gauge(self, name: str, text: str, read: Callable[[], float | Samples], labels: Sequence[str] = ()) -> None:
        """Register a gauge, which `read` is called for at each scrape; it returns one number where there are no labels.

        Raises `ValueError` when the name is taken.
        """

        def samples() -> Samples:
            value = read()
            return [((), value)] if isinstance(value, int | float) else value

        self._add(Gauge(f"ponder_{name}", text, labels, samples))

    def forget(self, label: str, value: str) -> None:
        """Drop all counters and histograms whose `label` has this value, so that names that come and go do not fill the page."""
        for metric in self._metrics.values():
            if isinstance(metric, MetricFamily):
                metric.forget(label, value)

    def describe(self) -> list[tuple[str, str, tuple[str, ...], str]]:
        """Return name, kind, label names and help of every metric, in the order of the page."""
        return [metric.description for metric in self._metrics.values()]

    def _add(self, metric: M) -> M:
        if metric.name in self._metrics:
            message = f"{metric.name} is registered already"
            raise ValueError(message)
        self._metrics[metric.name] = metric
        return metric

    def render(self, *, is_openmetrics: bool = False) -> bytes:
        """Return the page. OpenMetrics' last line, `# EOF`, is left out, since the engine's own metrics may follow."""
        lines = [line for metric in self._metrics.values() for line in metric.lines(is_openmetrics=is_openmetrics)]
        return "".join(lines).encode()


def _exemplar(value: float, exemplar: tuple[str, float]) -> str:
    trace_id, at = exemplar
    return f' # {{trace_id="{trace_id}"}} {float(value)!r} {at:.3f}'


def _head(name: str, text: str, kind: str, *, is_openmetrics: bool) -> Iterator[str]:
    # In OpenMetrics the name of a counter's family has no `_total`, only the names of its samples have.
    family = name.removesuffix("_total") if is_openmetrics and kind == "counter" else name
    yield f"# HELP {family} {text}\n# TYPE {family} {kind}\n"


def _braced(labels: Sequence[str], values: Sequence[str]) -> str:
    pairs = sorted(zip(labels, values, strict=True))
    return ",".join(f'{label}="{_escaped(value)}"' for label, value in pairs)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
