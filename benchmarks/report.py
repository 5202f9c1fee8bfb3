"""The table of a benchmark, as Markdown and as a JSON file."""

import json
import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.engine.hardware import plan_cpu

RESULTS = Path(__file__).parent / "results"
"""Where the results are kept that the documentation shows."""


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of a Markdown table, headed by the keys of the first row."""
    heads = list(rows[0])
    body = ["| " + " | ".join(str(row[head]) for head in heads) + " |" for row in rows]
    return ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), *body]


@dataclass
class Table:
    """The table of one benchmark.

    Attributes:
        name: of the file below the results.
        title: above the table.
        command: what `python -m` runs to measure it again; by default the benchmark of that name.
        rows: each with the heads of the columns as keys.

    """

    name: str
    title: str
    command: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)

    def markdown(self) -> str:
        """Return the table as the documentation shows it."""
        return "\n".join([f"**{self.title}**", "", *table(self.rows)])

    def save(self) -> Path:
        """Write `results/<name>.json` with the machine and the date, and return its path."""
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{self.name}.json"
        command = self.command or f"benchmarks --only {self.name}"
        content = {"title": self.title, "command": command, "machine": machine(), "rows": self.rows}
        path.write_text(json.dumps(content, indent=2) + "\n")
        return path


def machine() -> dict[str, Any]:
    """Return the processor, the number of cores, the number format, the Python version and the date."""
    cpuinfo = Path("/proc/cpuinfo").read_text(errors="replace")
    model = next((line.split(":")[1].strip() for line in cpuinfo.splitlines() if line.startswith("model name")), "?")
    plan = plan_cpu()
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "dtype": f"{plan.dtype} ({plan.reason})",
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }
