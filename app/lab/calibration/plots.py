"""The figure of the report: accuracy against FLOPs of all plans, and the reliability of the difficulty. It needs matplotlib."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from app.lab.calibration.performance import PlanPerformance
from app.lab.calibration.policy_building import CalibrationResult, DifficultyEstimates


def figure_png(title: str, result: CalibrationResult) -> bytes:
    """Return a PNG with one panel for all questions, one for each bin, and one for the reliability of the difficulty."""
    figure = Figure(figsize=(15, 8), layout="constrained")
    axes = figure.subplots(2, 4).flatten()
    figure.suptitle(title)
    everywhere = np.ones(len(result.bins), dtype=bool)
    bins = [(f"bin {number + 1}", result.bins == number) for number in sorted(set(result.bins))]
    panels = [("all questions", everywhere), *bins]
    for axis, (name, mask) in zip(axes, panels, strict=False):
        _plot_frontier(axis, name, [one.of(mask) for one in result.fixed], [one.of(mask) for one in result.autos.values()])
    axes[0].legend(fontsize=7)
    reliability, *unused = axes[len(panels) :]
    _plot_reliability(reliability, result.difficulty)
    for axis in unused:
        axis.set_visible(False)
    png = BytesIO()
    figure.savefig(png, format="png", dpi=110)
    return png.getvalue()


def _plot_reliability(axis: Any, difficulty: DifficultyEstimates) -> None:
    axis.plot([0, 1], [0, 1], color="grey", linewidth=0.5)
    for name, (estimates, is_wrong) in difficulty.items():
        parts = np.array_split(np.argsort(estimates, kind="stable"), 10)
        points = [(float(estimates[part].mean()), float(is_wrong[part].mean())) for part in parts if len(part)]
        axis.plot(*zip(*points, strict=True), marker="o", label=name)
    axis.set(title="reliability", xlabel="estimated difficulty", ylabel="share of wrong answers")
    axis.legend(fontsize=7)


def _plot_frontier(axis: Any, name: str, fixed: Sequence[PlanPerformance], autos: Sequence[PlanPerformance]) -> None:
    lines: dict[str, list[PlanPerformance]] = {}
    for one in fixed:
        lines.setdefault(one.label.partition(" n=")[0], []).append(one)
    for label, performances in lines.items():
        points = [(one.gflops, one.mean) for one in performances]
        axis.plot(*zip(*points, strict=True), marker=".", label=label, linewidth=0.8)
    for one in autos:
        low, high = one.interval
        # rounding may put the mean a little outside of its clipped interval
        errors = [[max(one.mean - low, 0)], [max(high - one.mean, 0)]]
        axis.errorbar(one.gflops, one.mean, errors, marker="*", markersize=11, color="black", capsize=2)
        axis.annotate(one.label.partition(", ")[2], (one.gflops, one.mean), fontsize=7)
    axis.set(title=f"{name} ({len(fixed[0].accuracy)})", xlabel="GFLOPs per question", ylabel="accuracy", xscale="log")
