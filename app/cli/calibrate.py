"""`ponder calibrate` measures a model and makes a policy for it; `ponder cascade` makes one that chooses among several models."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.cli.client import exit_with_error, require_extra
from app.cli.model_options import takes_options
from app.lab.calibration.options import CalibrateOptions, CascadeOptions


@takes_options(CalibrateOptions)
def calibrate(options: CalibrateOptions) -> None:
    """Measure all plans on questions, and make a policy.

    The questions have known answers: the policy rests on what each plan costs and how often it is right.
    The command may be stopped at any time. Started again, it resumes after the last question.
    """
    with _calibrating():
        from app.lab.calibration.command import calibrate as run  # noqa: PLC0415

        try:
            run(options)
        except KeyboardInterrupt:
            exit_with_error("stopped; the same command resumes after the last question")


@takes_options(CascadeOptions)
def cascade(options: CascadeOptions) -> None:
    """Fit which of several models answers which question.

    All models were calibrated on the same questions.

    The cascade answers with the cheap model, looks at the answer, and asks a dearer one where that is worth its FLOPs.
    """
    with _calibrating():
        from app.lab.calibration.cascade_command import cascade as run  # noqa: PLC0415

        run(options)


@contextmanager
def _calibrating() -> Iterator[None]:
    """End the command with one line when it cannot do its work.

    The modules that do it are imported only within, since their libraries take seconds to import.
    """
    require_extra("calibrate", "sklearn", "matplotlib")
    from adapters.training.errors import TrainingError  # noqa: PLC0415
    from app.engine.weights.conversions import ModelUnavailable  # noqa: PLC0415
    from app.lab.calibration.pool import PoolRefused  # noqa: PLC0415

    try:
        yield
    except (ModelUnavailable, PoolRefused, TrainingError) as error:
        exit_with_error(error)
