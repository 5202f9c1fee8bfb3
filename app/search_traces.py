"""Keeps the search traces of the last requests: node by node, in memory, within bounds, and only for the API key that sent them.

A trace exists from the moment its request is admitted, so that a search can be watched while it runs. It contains what the model
wrote, and the prompt only where the operator keeps feedback. This module does not depend on HTTP.
"""

import itertools
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from app.errors import Disconnected, UnknownTrace
from strategies.core.results import TraceNode

NODE_CHARS = 200
"""The memory that a node takes besides its text, counted in characters."""


@dataclass(slots=True)
class SearchTrace:
    """The trace of one request.

    Attributes:
        id: the id of the request.
        model: the name of the model that answers.
        strategy: the name of the strategy.
        created: when the request was admitted, in seconds since 1970.
        status: "running", "completed", "failed" or "cancelled".
        nodes: the nodes of the search. A key is (the number of the node's prompt, the node's id).
        ponder: the reply's `ponder` object, None until the request is completed.
        num_chars: the memory that the trace takes, counted in characters.
        bin: the difficulty bin, counted from 1; 0 where no difficulty was estimated.
        difficulty: estimated from the prompt, None without a calibrated policy.
        adapter: the name of the adapter that answers, "" for the base model.
        example: the question with its answer, as `ponder calibrate` reads it; None where no feedback is kept.
        is_right: the caller's feedback, None until it is given.
        on_feedback: is called with it; None where nothing is learned of it.
        owner: the id of the API key that stays the same after a restart.
        base: the name of the base model, by which metrics are counted.
        otel_trace_id: the id of the request's OpenTelemetry trace, None where no spans are recorded.

    """

    id: str
    model: str
    strategy: str
    created: float = field(default_factory=time.time)
    status: str = "running"
    nodes: dict[tuple[int, int], TraceNode] = field(default_factory=dict)
    ponder: Mapping[str, Any] | None = None
    num_chars: int = 0
    bin: int = 0
    difficulty: float | None = None
    adapter: str = ""
    example: Mapping[str, Any] | None = None
    is_right: bool | None = None
    on_feedback: Callable[[bool], None] | None = None
    owner: str = "anonymous"
    base: str = ""
    otel_trace_id: str | None = None

    @property
    def depth(self) -> int:
        """The number of steps from the prompt to the deepest node; 0 without nodes."""
        if all(node.parent is None for node in self.nodes.values()):
            return min(len(self.nodes), 1)
        depths: dict[tuple[int, int], int] = {}
        # A parent has a smaller id than its children, so sorting by id puts it before them.
        for (number, node_id), node in sorted(self.nodes.items()):
            depths[number, node_id] = depths.get((number, node.parent), 0) + 1 if node.parent is not None else 1
        return max(depths.values(), default=0)

    def finish(self, ponder: Mapping[str, Any]) -> None:
        """Mark the request as completed, with the reply's `ponder` object."""
        self.ponder = ponder
        self.status = "completed"

    def update(self, number: int, nodes: Iterable[TraceNode]) -> None:
        """Add nodes that are new or have changed. `number` is the number of the prompt that they belong to."""
        for node in nodes:
            before = self.nodes.get((number, node.id))
            self.num_chars += len(node.text) - len(before.text) if before else len(node.text) + NODE_CHARS
            self.nodes[number, node.id] = node


class SearchTraces:
    """The traces of the last requests of one server. To keep within the bounds, the oldest trace is dropped of the key that has the most.

    A client may choose the id of its request. A later request with the same id and key replaces the trace.

    Args:
        max_traces: the largest number of traces.
        max_chars: the largest size of all traces together, in characters.

    """

    def __init__(self, max_traces: int, max_chars: int) -> None:
        self._max_traces = max_traces
        self._max_chars = max_chars
        self._kept: OrderedDict[tuple[str, str], SearchTrace] = OrderedDict()

    def keep(self, key: str, trace: SearchTrace) -> None:
        """Keep a trace as the newest of this key, in place of one with the same id."""
        self._kept.pop((key, trace.id), None)
        self._kept[key, trace.id] = trace
        self._make_room()

    @contextmanager
    def recorded(self, key: str, trace: SearchTrace) -> Iterator[SearchTrace]:
        """Keep a trace from now on. At the block's end a trace that is not completed becomes "failed" or "cancelled"."""
        self.keep(key, trace)
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
        """Return the trace with this id that the key's request made, or raise `UnknownTrace`."""
        try:
            return self._kept[key, trace_id]
        except KeyError:
            raise UnknownTrace(
                f"There is no trace `{trace_id}`. It may have been dropped to make room for newer traces.", parameter="id"
            ) from None

    def names(self) -> set[tuple[str, str]]:
        """Return the owners and ids of all traces."""
        return {(trace.owner, trace.id) for trace in self._kept.values()}

    def newest(self, key: str, limit: int) -> list[SearchTrace]:
        """Return the last `limit` traces of this key's requests, the newest first."""
        own = (trace for (owner, _), trace in reversed(self._kept.items()) if owner == key)
        return list(itertools.islice(own, limit))

    def _make_room(self) -> None:
        while True:
            number, size = Counter[str](), Counter[str]()
            for (key, _), trace in self._kept.items():
                number[key] += 1
                size[key] += trace.num_chars
            if number.total() > self._max_traces:
                share = number
            elif size.total() > self._max_chars:
                share = size
            else:
                return
            [(largest, _)] = share.most_common(1)
            del self._kept[next((key, trace_id) for key, trace_id in self._kept if key == largest)]
