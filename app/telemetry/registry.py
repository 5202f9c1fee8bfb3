"""Counters, histograms and gauges, and the page on which Prometheus reads them.

The page is ours because of its length: with a hundred adapters and every strategy it has some forty thousand lines, for which
prometheus_client, which puts each line together anew, takes a third of a second. Here a series knows its lines but for the
numbers. All of it lives on the event loop: there are no locks.

Formats: Prometheus' text format 0.0.4, and OpenMetrics 1.0, which has exemplars.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Readings = Iterable[tuple[Sequence[str], float]]
"""Values of a gauge by the values of its labels."""

Number = int | float


class Series(ABC):
    """One combination of labels. `name` is its family's, `labels` what stands between the braces."""

    @abstractmethod
    def lines(self, *, is_open: bool) -> Iterator[str]:
        """Its lines on the page; `is_open`: in OpenMetrics."""


class Count(Series):
    """A sum that only grows."""

    __slots__ = ("_line", "value")

    def __init__(self, name: str, labels: str) -> None:
        self.value: Number = 0
        self._line = f"{name}{{{labels}}} " if labels else f"{name} "

    def inc(self, amount: Number = 1) -> None:
        """Add to it."""
        self.value += amount

    def lines(self, *, is_open: bool) -> Iterator[str]:  # noqa: ARG002 - both formats agree
        """The one that it has."""
        yield f"{self._line}{float(self.value)!r}\n"


class Spread(Series):
    """How values are spread over buckets. Each bucket remembers the last request that fell into it, for exemplars."""

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

    def observe(self, value: float, trace: tuple[str, float] | None = None) -> None:
        """Count a value; `trace`: the id of its request's, and the time (seconds since 1970)."""
        place = bisect_left(self._bounds, value)
        self._counts[place] += 1
        self.total += value
        if trace is not None:
            self._exemplars[place] = value, trace

    def lines(self, *, is_open: bool) -> Iterator[str]:
        """Cumulative buckets, count and sum."""
        exemplars = {place: _exemplar(*one) for place, one in self._exemplars.items()} if is_open else {}
        num = 0
        for place, (head, num) in enumerate(zip(self._heads, accumulate(self._counts), strict=True)):
            yield f"{head}{num}.0{exemplars.get(place, '')}\n"
        count, total = self._last
        yield f"{count}{num}.0\n{total}{self.total!r}\n"


S = TypeVar("S", bound=Series)


class Family(Generic[S]):
    """The series of one name, by the values of their labels, in the order of `labels`."""

    def __init__(self, name: str, text: str, kind: str, labels: Sequence[str], make: Callable[[str, str], S]) -> None:
        self.name = name
        self._text = text
        self._kind = kind
        self._labels = tuple(labels)
        self._make = make
        self._series: dict[tuple[str, ...], S] = {}

    def labels(self, *values: str) -> S:
        """The series of these, made when it is asked for first."""
        if (found := self._series.get(values)) is None:
            found = self._series[values] = self._make(self.name, _braced(self._labels, values))
        return found

    def forget(self, label: str, value: str) -> None:
        """Drop all series that have this; none, where there is no such label."""
        if label in self._labels:
            place = self._labels.index(label)
            self._series = {values: one for values, one in self._series.items() if values[place] != value}

    def lines(self, *, is_open: bool) -> Iterator[str]:
        """What it is, and all its series."""
        yield from _head(self.name, self._text, self._kind, is_open=is_open)
        for one in self._series.values():
            yield from one.lines(is_open=is_open)


class Gauge:
    """Values that are read when the page is."""

    def __init__(self, name: str, text: str, labels: Sequence[str], read: Callable[[], Readings]) -> None:
        self.name = name
        self._text = text
        self._labels = tuple(labels)
        self._read = read

    def lines(self, *, is_open: bool) -> Iterator[str]:
        """What it is, and what it reads now."""
        yield from _head(self.name, self._text, "gauge", is_open=is_open)
        for values, value in self._read():
            labels = _braced(self._labels, values)
            yield f"{self.name}{{{labels}}} {float(value)!r}\n" if labels else f"{self.name} {float(value)!r}\n"


F = TypeVar("F", Family[Count], Family[Spread], Gauge)


class Page:
    """All families of one server. Names get the prefix `ponder_`: vLLM unregisters what is called `vllm:*` when it starts."""

    def __init__(self) -> None:
        self._families: dict[str, Family[Count] | Family[Spread] | Gauge] = {}

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Family[Count]:
        """A family of sums; the name ends in `_total`."""
        return self._add(Family(f"ponder_{name}", text, "counter", labels, Count))

    def histogram(self, name: str, text: str, bounds: Sequence[float], labels: Sequence[str] = ()) -> Family[Spread]:
        """A family of spreads; `bounds` are the upper ends of the buckets, the last of which is infinite and not named."""
        ends = tuple(bounds)
        return self._add(Family(f"ponder_{name}", text, "histogram", labels, lambda full, has: Spread(full, has, ends)))

    def gauge(self, name: str, text: str, read: Callable[[], float | Readings], labels: Sequence[str] = ()) -> None:
        """Something that is read when the page is; one number, where it has no labels."""

        def readings() -> Readings:
            value = read()
            return [((), value)] if isinstance(value, int | float) else value

        self._add(Gauge(f"ponder_{name}", text, labels, readings))

    def forget(self, label: str, value: str) -> None:
        """Drop all series that have this, so that the page does not grow with names that come and go."""
        for family in self._families.values():
            if isinstance(family, Family):
                family.forget(label, value)

    def _add(self, family: F) -> F:
        if family.name in self._families:
            message = f"{family.name} is there twice"
            raise ValueError(message)
        self._families[family.name] = family
        return family

    def render(self, *, is_open: bool = False) -> bytes:
        """The page; `is_open`: in OpenMetrics, without the mark of its end, since the engine's own part may follow."""
        lines = [line for family in self._families.values() for line in family.lines(is_open=is_open)]
        return "".join(lines).encode()


def _exemplar(value: float, trace: tuple[str, float]) -> str:
    trace_id, at = trace
    return f' # {{trace_id="{trace_id}"}} {float(value)!r} {at:.3f}'


def _head(name: str, text: str, kind: str, *, is_open: bool) -> Iterator[str]:
    named = name.removesuffix("_total") if is_open and kind == "counter" else name
    yield f"# HELP {named} {text}\n# TYPE {named} {kind}\n"


def _braced(labels: Sequence[str], values: Sequence[str]) -> str:
    pairs = sorted(zip(labels, values, strict=True))
    return ",".join(f'{label}="{_escaped(value)}"' for label, value in pairs)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
