"""What calibration found, as a page that needs nothing but itself."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape

import numpy as np

from adapters.training.scores import auroc
from app.lab.calibration.plots import picture
from app.lab.calibration.policy_building import Made, Moments
from app.lab.calibration.summary import Worth, brier, calibration_error, difference, error_by_chance, largest, oracle

_STYLE = """
body { font: 14px sans-serif; margin: 2em auto; max-width: 75em }
table { border-collapse: collapse; margin: 1em 0 }
td, th { padding: .2em .6em; border-bottom: 1px solid #ddd; text-align: right }
td:first-child, th:first-child { text-align: left }
img { width: 100% }
"""

Rows = Sequence[Sequence[str]]


def page(title: str, about: str, made: Made) -> str:
    """HTML: the picture, and the tables behind it."""
    image = b64encode(picture(title, made)).decode("ascii")
    about = f"{about} Everything is charged. The policy is measured on {len(made.bins)} questions in folds: each on what the others taught."
    parts = [
        f"<h1>{escape(title)}</h1><p>{escape(about)} Intervals are 95 % over questions.</p>",
        f'<img alt="accuracy against FLOPs, by bin, and reliability" src="data:image/png;base64,{image}">',
        "<h2>Plans</h2>" + _table(plans(made)),
        "<h2>Regret</h2>" + _table(regret(made)),
        "<h2>Difficulty</h2>" + _table(moments(made.moments)),
        "<h2>By bin</h2>" + _table(by_bin(made)),
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def plans(made: Made) -> Rows:
    """Every plan on all questions, the policy's last."""
    rows = [["plan", "accuracy", "95 % interval", "GFLOP a question", "branches"]]
    for one in (*made.fixed, *made.autos.values()):
        low, high = one.interval
        count = f"{one.branches.mean():.1f}"
        rows.append([one.label, f"{one.mean:.1%}", f"{low:.1%} to {high:.1%}", f"{one.gflops:.0f}", count])
    return rows


def regret(made: Made) -> Rows:
    """Against whoever knows the best fixed plan of each question, and against those that never look."""
    knows = oracle([*made.fixed, *made.autos.values()])
    direct = made.fixed[0]
    most = largest(made.fixed)
    rows = [["effort", *(f"accuracy less than that of {one.label}" for one in (knows, direct, most)), "times their FLOPs"]]
    for auto in made.autos.values():
        cells = []
        for one in (knows, direct, most):
            mean, low, high = difference(one, auto)
            cells.append(f"{mean:+.1%} ({low:+.1%} to {high:+.1%})")
        times = ", ".join(f"{auto.gflops / one.gflops:.2f}" for one in (knows, direct, most))
        rows.append([auto.label, *cells, times])
    return rows


def moments(seen: Moments) -> Rows:
    """How far both can be believed."""
    rows = [["estimated", "AUROC", "calibration error", "by chance alone", "Brier score"]]
    for name, (estimates, is_wrong) in seen.items():
        error = calibration_error(estimates, is_wrong)
        numbers = (auroc(estimates, is_wrong), error, error_by_chance(estimates), brier(estimates, is_wrong))
        rows.append([name, *(f"{number:.3f}" for number in numbers)])
    return rows


def by_bin(made: Made) -> Rows:
    """Per bin what each effort does, and the most right fixed plan beside it."""
    rows = [["bin", "questions", "direct", "most right fixed plan", *made.autos]]
    for number in sorted(set(made.bins.tolist())):
        some = made.bins == number
        best = max((one.of(some) for one in made.fixed), key=lambda one: (one.mean, -one.gflops))
        cells = [_cell(one.of(some)) for one in made.autos.values()]
        row = [str(number + 1), str(int(np.sum(some))), _cell(made.fixed[0].of(some)), f"{best.label}: {_cell(best)}", *cells]
        rows.append(row)
    return rows


def _cell(one: Worth) -> str:
    return f"{one.mean:.0%} for {one.gflops:.0f}"


def _table(rows: Rows) -> str:
    head, *body = rows
    lines = ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body]
    return "<table><tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>" + "".join(lines) + "</table>"
