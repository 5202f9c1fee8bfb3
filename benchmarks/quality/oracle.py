"""A reward model that knows whether a puzzle can still be solved: the upper bound of what a verifier of steps can give.

It solves the puzzles itself, so its lines in the tables say nothing about the model. They separate two questions: whether the searches
work, and whether their verifiers are good. It serves vLLM's `/classify`, so the server calls it as it calls any reward model.
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


def score(text: str) -> float:
    """Return the score of a question with the beginning of an answer."""
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
    """Whether the numbers can be combined to the target. It tries everything."""
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
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        scores = [score(text) for text in request["input"]]
        data = [{"index": index, "probs": [1 - value, value]} for index, value in enumerate(scores)]
        reply = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def running() -> Iterator[str]:
    """Run it until the end of the block; yield the value of the server's `--reward-models`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield json.dumps({NAME: {"url": f"http://127.0.0.1:{server.server_port}", "route": "classify", "model": NAME}})
    finally:
        server.shutdown()
