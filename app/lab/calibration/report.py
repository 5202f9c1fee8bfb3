"""The report of a calibration: one HTML page without external files, and the tables of it."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape

import numpy as np

from app.lab.calibration.performance import (
    PlanPerformance,
    brier,
    calibration_error,
    difference,
    error_by_chance,
    expected_auroc,
    most_accurate_of_largest,
    oracle,
)
from app.lab.calibration.plots import figure_png
from app.lab.calibration.policy_building import CalibrationResult, DifficultyEstimates

_STYLE = """
body { font: 14px sans-serif; margin: 2em auto; max-width: 75em }
table { border-collapse: collapse; margin: 1em 0 }
td, th { padding: .2em .6em; border-bottom: 1px solid #ddd; text-align: right }
td:first-child, th:first-child { text-align: left }
img { width: 100% }
"""

Rows = Sequence[Sequence[str]]
"""The rows of a table, its head first."""


def report_page(
    title: str, about: str, result: CalibrationResult, tables: Sequence[tuple[str, Rows]] = (), notes: Sequence[str] = ()
) -> str:
    """Return the HTML page.

    Args:
        title: of the page.
        about: which model was measured on which questions.
        result: of the calibration.
        tables: more of them, with their titles.
        notes: what a reader must know first.

    """
    image = b64encode(figure_png(title, result)).decode("ascii")
    method = (
        f"{about} The FLOPs of the difficulty estimates and of verifiers are charged. The policy is measured by cross-validation on "
        f"{len(result.bins)} questions: each question is answered with a policy that was fitted to the other folds. Intervals are 95 % "
        "intervals over the questions."
    )
    picture = f'<img alt="accuracy against FLOPs, by bin, and reliability" src="data:image/png;base64,{image}">'
    own = [
        ("Plans", plan_rows(result)),
        ("Regret", regret_rows(result)),
        ("Difficulty", difficulty_rows(result.difficulty)),
        ("By bin", bin_rows(result)),
    ]
    first = "".join(f"<p><strong>{escape(note)}</strong></p>" for note in notes)
    return table_page(title, method, [*own, *tables], first + picture)


def table_page(title: str, about: str, tables: Sequence[tuple[str, Rows]], picture: str = "") -> str:
    """Return an HTML page of tables with their titles. The picture is HTML."""
    parts = [
        f"<h1>{escape(title)}</h1><p>{escape(about)}</p>",
        picture,
        *(f"<h2>{escape(name)}</h2>" + _table(rows) for name, rows in tables),
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def plan_rows(result: CalibrationResult) -> Rows:
    """Return the accuracy and cost of every plan on all questions, with the policy's last."""
    rows = [["plan", "accuracy", "95 % interval", "GFLOPs per question", "branches"]]
    for one in (*result.fixed, *result.autos.values()):
        low, high = one.interval
        count = f"{one.branches.mean():.1f}"
        rows.append([one.label, f"{one.mean:.1%}", f"{low:.1%} to {high:.1%}", f"{one.gflops:.0f}", count])
    return rows


def regret_rows(result: CalibrationResult) -> Rows:
    """Return what the policy loses against the oracle, `direct`, and the most accurate of the largest fixed plans."""
    best = oracle([*result.fixed, *result.autos.values()])
    direct = result.fixed[0]
    largest = most_accurate_of_largest(result.fixed)
    references = (best, direct, largest)
    rows = [["effort", *(f"accuracy below {one.label}" for one in references), "FLOPs as a multiple of theirs"]]
    for auto in result.autos.values():
        cells = []
        for one in references:
            mean, low, high = difference(one, auto)
            cells.append(f"{mean:+.1%} ({low:+.1%} to {high:+.1%})")
        multiples = ", ".join(f"{auto.gflops / one.gflops:.2f}" for one in references)
        rows.append([auto.label, *cells, multiples])
    return rows


def difficulty_rows(difficulty: DifficultyEstimates) -> Rows:
    """Return how good the estimates of difficulty are."""
    rows = [["estimated", "AUROC", "calibration error", "calibration error by chance alone", "Brier score"]]
    for name, (estimates, is_wrong) in difficulty.items():
        error = calibration_error(estimates, is_wrong)
        numbers = (expected_auroc(estimates, is_wrong), error, error_by_chance(estimates), brier(estimates, is_wrong))
        rows.append([name, *(f"{number:.3f}" for number in numbers)])
    return rows


def bin_rows(result: CalibrationResult) -> Rows:
    """Return the accuracy and GFLOPs of each effort by bin, with `direct` and the most accurate fixed plan besides."""
    rows = [["bin", "questions", "direct", "most accurate fixed plan", *result.autos]]
    for number in sorted(set(result.bins.tolist())):
        mask = result.bins == number
        best = max((one.of(mask) for one in result.fixed), key=lambda one: (one.mean, -one.gflops))
        cells = [_cell(one.of(mask)) for one in result.autos.values()]
        direct = _cell(result.fixed[0].of(mask))
        rows.append([str(number + 1), str(int(np.sum(mask))), direct, f"{best.label}: {_cell(best)}", *cells])
    return rows


def _cell(one: PlanPerformance) -> str:
    return f"{one.mean:.0%} for {one.gflops:.0f}"


def _table(rows: Rows) -> str:
    head, *body = rows
    lines = ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body]
    return "<table><tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>" + "".join(lines) + "</table>"
