"""What the operator must know of a policy: where its labels came from, and what a longer calibration is expected to bring."""

from collections.abc import Sequence
from typing import Any

from app.lab.calibration.learning_curve import LONGER, learning_curve
from app.lab.calibration.observed_questions import ObservedQuestion
from app.lab.calibration.options import CalibrateOptions
from app.request import Effort
from app.routing.agreement import MeasuredWithoutAnswers, shipped_agreement
from app.routing.policy_file import PolicyFile


def labels_provenance(options: CalibrateOptions) -> dict[str, Any]:
    """Return how it was decided which answers are right, for the policy's provenance."""
    if not options.unlabelled:
        return {"how": "answers"}
    model = shipped_agreement()
    return {
        "how": "agreement",
        "fitted_to": model.provenance,
        "measured": [one.model_dump(mode="json") for one in model.measured],
    }


def label_notes(options: CalibrateOptions) -> list[str]:
    """Return what the report says first of a policy without answers; nothing for one with answers."""
    if not options.unlabelled:
        return []
    models = ", ".join(shipped_agreement().provenance.get("models", []))
    return [
        (
            "This policy was made without answers. How probably an answer is right was estimated from how far the answers agree, as it was "
            f"learned from other models ({models}). So all accuracies below are estimates too."
        ),
        *(_measured(one) for one in shipped_agreement().measured),
    ]


def _measured(one: MeasuredWithoutAnswers) -> str:
    low, high = one.interval
    return (
        f"Measured on {one.model}: at equal FLOPs a policy made without answers from {one.questions} questions is "
        f"{100 * one.accuracy:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}) from the one with answers, on {one.test_questions} "
        f"other questions; the calibration error of its difficulty is {one.calibration_error:.2f}, with answers "
        f"{one.calibration_error_with_answers:.2f}."
    )


def curve_notes(observed: Sequence[ObservedQuestion], file: PolicyFile, *, has_time: bool) -> list[str]:
    """Return how much better a longer calibration is expected to be, measured if there is time for it.

    Args:
        observed: the questions of this one.
        file: the policy, whose price of medium effort counts.
        has_time: whether the time limit is not over.

    """
    if not has_time:
        return ["There was no time to measure what a longer calibration would bring."]
    curve = learning_curve(observed, file.prices[Effort.MEDIUM])
    if curve is None:
        return [f"{len(observed)} questions are too few to tell what a longer calibration would bring. More are better."]
    gain, low, high = curve.gain(LONGER)
    sizes = ", ".join(f"{value:.1%} from {size}" for size, value in zip(curve.sizes, curve.values, strict=True))
    return [
        (
            f"A calibration with {LONGER} times as many questions is expected to be {100 * gain:+.1f} points better "
            f"(95 % interval {100 * low:+.1f} to {100 * high:+.1f}), in accuracy less the price of its FLOPs at medium effort. "
            f"On held-out questions, policies that were fitted to fewer reach {sizes} questions."
        )
    ]
