"""Options of vLLM's engine on the command line of `ponder serve`, beside ponder's own."""

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from app.cli.model_options import GroupedCommand

ENGINE_ARGS = "--engine-args"

_VALUE = re.compile(r"(?!-)|-\d")
"""Begins a word that is the value of an option, and no option: a negative number is a value."""


class EngineOptionsCommand(GroupedCommand):
    """A command that hands the options that it does not know to vLLM's engine, which parses and checks them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command's own options, with the others as the value of `--engine-args`."""
        known = {spelling for one in self.get_params(ctx) for spelling in (*one.opts, *one.secondary_opts)}
        own, others = split_options(args, known)
        if others:
            own += [ENGINE_ARGS, shlex.join(others)]
        return super().parse_args(ctx, own)


def split_options(words: Sequence[str], known: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the words of options that are known, with all words before the first option, and the words of all other options.

    How many values an unknown option takes is not known, so all words up to the next option are its values. A model that is not named by
    an option therefore stands first, as on vLLM's own command line.
    """
    known = frozenset(known)
    own: list[str] = []
    others: list[str] = []
    target = own
    for word in words:
        if _VALUE.match(word):
            target.append(word)
            continue
        name, *value = word.split("=", 1)
        name = name.replace("_", "-")  # as on vLLM's command line, both spellings are taken
        target = own if name in known else others
        target.append("=".join((name, *value)) if name in known else word)
    return own, others
