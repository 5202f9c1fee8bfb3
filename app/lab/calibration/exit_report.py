"""The tables of early exits in the report: all thresholds, those that were chosen, and agreement beside confidence at equal tokens."""

from collections.abc import Sequence

from app.lab.calibration.exit_choice import THRESHOLDS, ChosenExit
from app.lab.calibration.exit_replays import WINDOWS, ExitPerformance, ExitReplays
from app.lab.calibration.performance import mean_interval
from app.lab.calibration.report import Rows
from app.lab.calibration.tried_thoughts import MEANS, PLACES

_NUM_TRIED = 100
"""The most thresholds and lengths among which one with equal tokens is looked for."""

_COST = ("thinking, of whole thinking", "trials, of whole thinking", "trial tokens per question")
_NAMES = {"turns": "turns of the thinking", "lines": "every line"}
_ACCURACY = ("accuracy", "95 % interval", "gain over whole thinking", "95 % interval of the gain")


def exit_tables(replays: ExitReplays, chosen: Sequence[ChosenExit]) -> list[tuple[str, Rows]]:
    """Return the tables with their titles."""
    num = len(replays.thoughts)
    return [
        (f"Early exits: chosen thresholds, on held-out ones of {num} questions", chosen_rows(replays, chosen)),
        ("Early exits: agreement of trials at equal tokens", equal_token_rows(replays)),
        ("Early exits: all thresholds", threshold_rows(replays)),
    ]


def threshold_rows(replays: ExitReplays) -> Rows:
    """Return the accuracy and the tokens of every threshold of every rule."""
    rows = [
        ["transitions", "rule", "threshold", *_ACCURACY, *_COST],
        ["", "whole thinking", "", *_cells(replays, replays.whole)],
    ]
    for places in PLACES:
        for mean in MEANS:
            for threshold in THRESHOLDS:
                cells = _cells(replays, replays.by_score(places, mean, threshold))
                rows.append([_NAMES[places], f"confidence ({mean})", f"{threshold:g}", *cells])
        rows += [
            [_NAMES[places], f"agreement of {window}", "", *_cells(replays, _agreement(replays, places, window))]
            for window in WINDOWS
        ]
    return rows


def chosen_rows(replays: ExitReplays, chosen: Sequence[ChosenExit]) -> Rows:
    """Return the thresholds of the policy, and what choosing them so does on other questions than those that they are chosen on."""
    rows = [["transitions", "confidence", "threshold", *_ACCURACY, *_COST]]
    for one in chosen:
        threshold = "none is good enough" if one.threshold is None else f"{one.threshold:g}"
        rows.append([_NAMES[one.places], one.mean, threshold, *_cells(replays, one.held_out)])
    return rows


def equal_token_rows(replays: ExitReplays) -> Rows:
    """Return each rule of agreement, beside the threshold of confidence and the fixed length that think as many tokens.

    So a rule that only ends early is told from one that knows when.
    """
    rows = [["transitions", "rule", "threshold", *_ACCURACY, *_COST]]
    for places in PLACES:
        lengths = [replays.by_length(places, tokens) for tokens in _some(replays.lengths(places))]
        sure = [replays.by_score(places, "mean", threshold) for threshold in _some(replays.confidences(places, "mean"))]
        for window in WINDOWS:
            agreement = _agreement(replays, places, window)
            rows.append([_NAMES[places], f"agreement of {window}", "", *_cells(replays, agreement)])
            for name, others in (("confidence (mean)", sure), ("fixed length", lengths)):
                if others:
                    one = min(others, key=lambda other: abs(float(other.thinking.mean() - agreement.thinking.mean())))
                    threshold = "" if one.threshold is None else f"{one.threshold:.4f}"
                    rows.append([_NAMES[places], name, threshold, *_cells(replays, one)])
    return rows


def _cells(replays: ExitReplays, one: ExitPerformance) -> list[str]:
    mean, low, high = mean_interval(one.accuracy)
    gain, lower, upper = mean_interval(one.accuracy - replays.whole.accuracy)
    thinking, trials = one.share(replays.whole)
    return [
        f"{mean:.1%}", f"{max(low, 0):.1%} to {min(high, 1):.1%}", f"{gain:+.1%}", f"{lower:+.1%} to {upper:+.1%}",
        f"{thinking:.0%}", f"{trials:.0%}", f"{one.trials.mean():.1f}",
    ]  # fmt: skip


def _agreement(replays: ExitReplays, places: str, window: int) -> ExitPerformance:
    return replays.by_score(places, f"agreement {window}", 1.0)


def _some(values: Sequence[float]) -> Sequence[float]:
    """Return at most about `_NUM_TRIED` of the values, evenly spread."""
    return values[:: max(len(values) // _NUM_TRIED, 1)]
