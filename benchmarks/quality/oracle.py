"""A reward model that knows whether a puzzle can still be solved: what a perfect verifier of steps would bring, and no more than that.

It is no checker but a solver, so its lines in the tables are no achievement of the search. They tell two things apart: whether the
searches work, and whether what guides them is any good. It speaks vLLM's `/classify`, so the server asks it as it asks any reward model.
"""

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from benchmarks.quality.arithmetic import left

NAME = "oracle"
SOLVED, SOLVABLE, HOPELESS = 0.99, 0.9, 0.01

_PUZZLE = re.compile(r"Numbers: ([-\d ]+)\. Target: (-?\d+)\n\n(.*)", re.DOTALL)


def verdict(text: str) -> float:
    """Of a question with an answer as far as it goes."""
    match = _PUZZLE.fullmatch(text)
    if match is None:
        return HOPELESS
    target = Fraction(match[2])
    pool = left(match[3], [int(number) for number in match[1].split()])
    if pool is None:
        return HOPELESS
    numbers = tuple(sorted(pool.elements()))
    if numbers == (target,):
        return SOLVED
    return SOLVABLE if is_solvable(numbers, target) else HOPELESS


@lru_cache(100_000)
def is_solvable(numbers: tuple[Fraction, ...], target: Fraction) -> bool:
    """Whether the numbers make the target, by trying everything."""
    if len(numbers) == 1:
        return numbers[0] == target
    pool = Counter(numbers)
    for a in pool:
        for b in pool - Counter([a]):
            rest = pool - Counter([a]) - Counter([b])
            made = {a + b, a - b, a * b, *([a / b] if b else [])}
            if any(is_solvable(tuple(sorted((rest + Counter([c])).elements())), target) for c in made):
                return True
    return False


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        scores = [verdict(text) for text in asked["input"]]
        data = [{"index": index, "probs": [1 - score, score]} for index, score in enumerate(scores)]
        reply = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: object) -> None:
        """Silent."""


@contextmanager
def running() -> Iterator[str]:
    """The setting by which a server knows it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield json.dumps({NAME: {"url": f"http://127.0.0.1:{server.server_port}", "route": "classify", "model": NAME}})
    finally:
        server.shutdown()
