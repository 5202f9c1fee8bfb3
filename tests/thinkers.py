"""Scripts of models that think, for the scripted engine, and small parameters with which every strategy is asked."""

from typing import Any

from app.engine.scripted import Script

MARKS = ("<think>", "</think>")

UNTOUCHED = {"moved": 0, "thinking_cut": 0, "thinking_landed": 0, "thinking_extended": 0}
"""Of `ponder.branches`, where the server did nothing to a thinking."""

PARAMETERS: dict[str, dict[str, Any]] = {
    "direct": {},
    "tree_of_thoughts": {"samples": 3, "breadth": 3, "evaluate": "verifier"},
    "mcts": {"iterations": 6, "expand": 3},
    "beam_search": {"n": 6, "expand": 2},
    "sequential_revision": {"chains": 3, "attempts": 2},
    "self_aggregation": {"n": 3, "rounds": 2},
}
"""By strategy; the others take `n`."""


def thinker(*replies: str) -> Script:
    """A model that writes one of these replies from the first thought on, whatever part of it was said before.

    Where the server has ended its thinking, it goes on with the answer of a reply. Any other question is answered with 42. A model that
    opens its thinking itself begins with the first mark.
    """
    start, end = MARKS

    def script(prompt: str, number: int) -> str:
        _, is_open, said = prompt.rpartition(start)
        if not is_open:
            return f" {start}{replies[number % len(replies)]}"
        _, is_ended, answer = said.partition(end)
        rests = [reply[len(said) :] for reply in replies if reply.startswith(said)]
        if is_ended and not rests:
            answers = [reply.partition(end)[2] for reply in replies]
            rests = [one[len(answer) :] for one in answers if one.startswith(answer)]
        return rests[number % len(rests)] if rests else " 42"

    return script
