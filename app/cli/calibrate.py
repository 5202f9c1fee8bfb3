"""`ponder calibrate`: measures a model and makes a policy for it."""

from app.cli.client import exit_with_error, require_extra
from app.cli.model_options import takes_options
from app.lab.calibration.options import CalibrateOptions


@takes_options(CalibrateOptions)
def calibrate(options: CalibrateOptions) -> None:
    """Measure all plans on questions, and make a policy.

    The questions have known answers: the policy rests on what each plan costs and how often it is right.
    The command may be stopped at any time. Started again, it resumes after the last question.
    """
    require_extra("calibrate", "sklearn", "matplotlib")
    # Imported only now: these libraries take seconds to import.
    from adapters.training.errors import TrainingError  # noqa: PLC0415
    from app.engine.weights.conversions import ModelUnavailable  # noqa: PLC0415
    from app.lab.calibration.command import calibrate as run  # noqa: PLC0415
    from app.lab.calibration.pool import PoolRefused  # noqa: PLC0415

    try:
        run(options)
    except (ModelUnavailable, PoolRefused, TrainingError) as error:
        exit_with_error(error)
    except KeyboardInterrupt:
        exit_with_error("stopped; the same command resumes after the last question")
