"""The run card: what a result was made of and what it cost, as JSON for programs and as Markdown for people."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from adapters.disk import write_whole

CARD_FILE = "run_card.json"
README_FILE = "README.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCard:
    """One run, over all its starts.

    Attributes:
        command: what was run, in words.
        fingerprint: hash of everything that decides the result: base, data, recipe.
        data: hash and counts of what was learned from.
        recipe: hyper-parameters, by name.
        parameters: of the whole model, `trained` those that were trained.
        steps: optimiser steps; `tokens` that were computed, padding among them.
        flops: of all steps and looks at the validation data, by arithmetic.
        seconds: of computing, over all starts.
        peak_bytes: the most memory that the process held, of all starts.
        scores: what was measured, by name.
        machine: processor and number format.

    """

    command: str
    fingerprint: str
    base: str
    data: dict[str, Any]
    recipe: dict[str, Any]
    parameters: int
    trained: int
    steps: int
    tokens: int
    flops: int
    seconds: float
    peak_bytes: int
    scores: dict[str, float] = field(default_factory=dict)
    machine: str = ""

    def write(self, folder: Path) -> None:
        """Both files; whole or not at all."""
        write_whole(folder / CARD_FILE, json.dumps(asdict(self), indent=2) + "\n")
        write_whole(folder / README_FILE, self.markdown())

    def markdown(self) -> str:
        """For people."""
        rows = {
            "base": self.base,
            "data": ", ".join(f"{name} {value}" for name, value in self.data.items()),
            "recipe": ", ".join(f"{name} {_plain(value)}" for name, value in self.recipe.items() if value is not None),
            "parameters": f"{self.trained:,} trained of {self.parameters:,}",
            "steps": f"{self.steps:,}, {self.tokens:,} tokens",
            "compute": f"{self.flops / 1e12:,.1f} TFLOP in {self.seconds / 60:,.1f} minutes, {self.peak_bytes / 2**30:.2f} GiB at most",
            "machine": self.machine,
            **{name: f"{value:.4g}" for name, value in self.scores.items()},
        }
        lines = [f"| {name} | {value} |" for name, value in rows.items()]
        return "\n".join([f"# {self.command}", "", "| | |", "|---|---|", *lines, ""])


def read_card(folder: Path) -> RunCard | None:
    """The card of a finished run, None where there is none."""
    try:
        return RunCard(**json.loads((folder / CARD_FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
