"""What the last requests did, node by node: kept in memory, within bounds, and shown only to the key that asked.

A trace is there from the moment its request is admitted, so that a search can be watched while it runs. It holds what the model wrote,
and the prompt only where the operator keeps feedback. Knows no HTTP.
"""

import itertools
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from app.errors import Disconnected, UnknownTrace
from strategies.core.results import TraceNode

NODE_CHARS = 200
"""What a node takes besides its text."""


@dataclass(slots=True)
class SearchTrace:
    """One request's. `nodes` by the number of the prompt and their id; `account` is the reply's `ponder` object, when it is done.

    Attributes:
        bin: of its difficulty, 0 for none; `difficulty` itself, None where nothing was measured.
        adapter: that answered, by name, "" for none.
        asked: the question with the answer that it got, as `ponder calibrate` reads it; only where feedback is kept.
        is_right: as the caller has said.
        otel_trace_id: of the spans that OpenTelemetry records of the request; None where it records none.

    """

    id: str
    model: str
    strategy: str
    created: float = field(default_factory=time.time)
    status: str = "running"
    nodes: dict[tuple[int, int], TraceNode] = field(default_factory=dict)
    account: Mapping[str, Any] | None = None
    num_chars: int = 0
    bin: int = 0
    difficulty: float | None = None
    adapter: str = ""
    asked: Mapping[str, Any] | None = None
    is_right: bool | None = None
    otel_trace_id: str | None = None

    @property
    def depth(self) -> int:
        """Steps from the prompt to the deepest node."""
        if all(node.parent is None for node in self.nodes.values()):
            return min(len(self.nodes), 1)
        depths: dict[tuple[int, int], int] = {}
        for (number, node_id), node in sorted(self.nodes.items()):  # a parent's id is smaller than its children's
            depths[number, node_id] = depths.get((number, node.parent), 0) + 1 if node.parent is not None else 1
        return max(depths.values(), default=0)

    def finish(self, account: Mapping[str, Any]) -> None:
        """The request is answered, at this cost."""
        self.account = account
        self.status = "completed"

    def take(self, number: int, nodes: Iterable[TraceNode]) -> None:
        """New nodes, and those that have changed, of the prompt of that number."""
        for node in nodes:
            before = self.nodes.get((number, node.id))
            self.num_chars += len(node.text) - len(before.text) if before else len(node.text) + NODE_CHARS
            self.nodes[number, node.id] = node


class SearchTraces:
    """The last ones, `max_traces` at most and `max_chars` together; older ones make room.

    A client may choose the id of its request: another of the same id and key takes its place.
    """

    def __init__(self, max_traces: int, max_chars: int) -> None:
        self._max_traces = max_traces
        self._max_chars = max_chars
        self._kept: OrderedDict[tuple[str, str], SearchTrace] = OrderedDict()

    @contextmanager
    def recorded(self, key: str, trace: SearchTrace) -> Iterator[SearchTrace]:
        """Keep it from now on. What is not finished when the block ends has failed, or was cancelled."""
        self._kept.pop((key, trace.id), None)
        self._kept[key, trace.id] = trace
        self._make_room()
        try:
            yield trace
        except Disconnected:
            raise
        except Exception:
            trace.status = "failed"
            raise
        finally:
            if trace.status == "running":
                trace.status = "cancelled"
            self._make_room()

    def find(self, key: str, trace_id: str) -> SearchTrace:
        """The trace of that id that the key made, or `UnknownTrace`."""
        try:
            return self._kept[key, trace_id]
        except KeyError:
            raise UnknownTrace(f"There is no trace `{trace_id}`, or not any more.", parameter="id") from None

    def of(self, key: str, most: int) -> list[SearchTrace]:
        """The last traces that the key made, the newest first."""
        own = (trace for (owner, _), trace in reversed(self._kept.items()) if owner == key)
        return list(itertools.islice(own, most))

    def _make_room(self) -> None:
        num_chars = sum(trace.num_chars for trace in self._kept.values())
        while self._kept and (len(self._kept) > self._max_traces or num_chars > self._max_chars):
            _, oldest = self._kept.popitem(last=False)
            num_chars -= oldest.num_chars
