"""`ponder calibrate`: measures a model and makes its policy."""

import sys

import typer

from app.calibration.options import CalibrateOptions
from app.client import fail
from app.engine.conversions import ModelUnavailable
from app.settings import BadOptions, parse_options


def calibrate(context: typer.Context) -> None:
    """Measure what each plan costs and brings on questions with known answers."""
    from app.calibration.command import calibrate as run  # noqa: PLC0415 - takes seconds to import
    from app.calibration.pool import PoolRefused  # noqa: PLC0415 - as above

    try:
        run(parse_options(CalibrateOptions, context.command_path, context.args))
    except (BadOptions, ModelUnavailable, PoolRefused) as error:
        fail(error)
    except KeyboardInterrupt:
        sys.exit("ponder: stopped; the same command goes on from the last question")
