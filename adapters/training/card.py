"""The run card: what a result was made from and what it cost, as JSON for programs and as Markdown for people."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from adapters.disk import write_whole

CARD_FILE = "run_card.json"
README_FILE = "README.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCard:
    """One run, summed over all its starts.

    Attributes:
        command: the command, as a title.
        fingerprint: hash of everything that decides the result: base, data, recipe.
        base: name of the base model's folder.
        data: hashes and counts of the data, and where they come from.
        recipe: hyper-parameters, by name.
        parameters: of the whole model.
        trained: those of them that were trained.
        steps: optimiser steps.
        tokens: positions that were computed, padding among them.
        flops: of all steps and evaluations, by arithmetic.
        seconds: of computing.
        peak_bytes: the most memory that the process held.
        scores: measurements, by name.
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
        """Write both files into the folder; each is there whole or not at all."""
        write_whole(folder / CARD_FILE, json.dumps(asdict(self), indent=2) + "\n")
        write_whole(folder / README_FILE, self.markdown())

    def markdown(self) -> str:
        """Return the card as a Markdown table."""
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
    """Return the card of the finished run in the folder, None where there is none."""
    try:
        return RunCard(**json.loads((folder / CARD_FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
