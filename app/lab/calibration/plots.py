"""The report's picture: accuracy against FLOPs of all plans, by bin, and how far estimates can be believed. Needs matplotlib."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from app.lab.calibration.policy_building import Made
from app.lab.calibration.summary import Worth


def picture(title: str, made: Made) -> bytes:
    """A PNG: one panel for all questions, one for each bin, one for the reliability of both moments."""
    figure = Figure(figsize=(15, 8), layout="constrained")
    axes = figure.subplots(2, 4).flatten()
    figure.suptitle(title)
    everywhere = np.ones(len(made.bins), dtype=bool)
    panels = [("all questions", everywhere), *((f"bin {number + 1}", made.bins == number) for number in sorted(set(made.bins)))]
    for axis, (name, some) in zip(axes, panels, strict=False):
        _frontier(axis, name, [one.of(some) for one in made.fixed], [one.of(some) for one in made.autos.values()])
    axes[0].legend(fontsize=7)
    reliability, *unused = axes[len(panels) :]
    reliability.plot([0, 1], [0, 1], color="grey", linewidth=0.5)
    for name, (estimates, is_wrong) in made.moments.items():
        parts = np.array_split(np.argsort(estimates, kind="stable"), 10)
        points = [(float(estimates[part].mean()), float(is_wrong[part].mean())) for part in parts if len(part)]
        reliability.plot(*zip(*points, strict=True), marker="o", label=name)
    reliability.set(title="reliability", xlabel="estimated difficulty", ylabel="share that was wrong")
    reliability.legend(fontsize=7)
    for axis in unused:
        axis.set_visible(False)
    png = BytesIO()
    figure.savefig(png, format="png", dpi=110)
    return png.getvalue()


def _frontier(axis: Any, name: str, fixed: Sequence[Worth], autos: Sequence[Worth]) -> None:
    lines: dict[str, list[Worth]] = {}
    for one in fixed:
        lines.setdefault(one.label.partition(" n=")[0], []).append(one)
    for label, worths in lines.items():
        points = [(one.gflops, one.mean) for one in worths]
        axis.plot(*zip(*points, strict=True), marker=".", label=label, linewidth=0.8)
    for one in autos:
        low, high = one.interval
        errors = [[max(one.mean - low, 0)], [max(high - one.mean, 0)]]
        axis.errorbar(one.gflops, one.mean, errors, marker="*", markersize=11, color="black", capsize=2)
        axis.annotate(one.label.partition(", ")[2], (one.gflops, one.mean), fontsize=7)
    axis.set(title=f"{name} ({len(fixed[0].accuracy)})", xlabel="GFLOP a question", ylabel="accuracy", xscale="log")
