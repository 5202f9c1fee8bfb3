"""The report of a fitted cascade: one HTML page."""

from collections.abc import Mapping, Sequence

import numpy as np

from app.lab.calibration.cascade_runs import MeasuredMember
from app.lab.calibration.cascades import Outcomes
from app.lab.calibration.evaluation import performance_of
from app.lab.calibration.performance import PlanPerformance
from app.lab.calibration.report import Rows, table_page
from app.routing.cascade_file import CascadeFile


def cascade_page(members: Sequence[MeasuredMember], file: CascadeFile, outcomes: Mapping[float, Outcomes]) -> str:
    """Return the page.

    Args:
        members: cheapest first.
        file: the cascade.
        outcomes: at each price, of cascades that were not fitted to the question.

    """
    num = len(members[0].observed)
    about = (
        f"{num} questions. Each is answered by a cascade that was fitted to the other folds, everything is charged, and intervals are "
        "95 % intervals over the questions."
    )
    return table_page("Accuracy and cost of a cascade", about, [("Members and efforts", cascade_rows(members, file, outcomes))])


def cascade_rows(members: Sequence[MeasuredMember], file: CascadeFile, outcomes: Mapping[float, Outcomes]) -> Rows:
    """Return the accuracy and cost of each member's greedy answer and of the cascade, and who answers there."""
    names = [f"{one.model} with an adapter" if one.adapter else one.model for one in file.members]
    rows = [["plan", "accuracy", "95 % interval", "GFLOPs per question", *(f"{name} answers" for name in names)]]
    for name, member in zip(names, members, strict=True):
        direct = performance_of(f"{name}, greedy", [[one.direct] for one in member.observed])
        rows.append([*_cells(direct), *("" for _ in names)])
    for effort, price in file.prices.items():
        answered = np.array([one.answered for each in outcomes[price] for one in each])
        shares = [f"{np.mean(answered == place):.0%}" for place in range(len(names))]
        rows.append([*_cells(performance_of(f"cascade, {effort}", outcomes[price])), *shares])
    return rows


def _cells(one: PlanPerformance) -> list[str]:
    low, high = one.interval
    return [one.label, f"{one.mean:.1%}", f"{low:.1%} to {high:.1%}", f"{one.gflops:.0f}"]
