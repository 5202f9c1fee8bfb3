"""`ponder calibrate`: measures a model and makes its policy."""

import sys

import typer

from adapters.training.errors import TrainingError
from app.cli.client import fail, need
from app.engine.weights.conversions import ModelUnavailable
from app.lab.calibration.options import CalibrateOptions
from app.lab.calibration.pool import PoolRefused
from app.settings import BadOptions, parse_options


def calibrate(context: typer.Context) -> None:
    """Measure what each plan costs and brings on questions with known answers."""
    try:
        options = parse_options(CalibrateOptions, context.command_path, context.args)
    except BadOptions as error:
        fail(error)
    need("calibrate", "sklearn", "matplotlib")
    from app.lab.calibration.command import calibrate as run  # noqa: PLC0415 - takes seconds to import

    try:
        run(options)
    except (ModelUnavailable, PoolRefused, TrainingError) as error:
        fail(error)
    except KeyboardInterrupt:
        sys.exit("ponder: stopped; the same command goes on from the last question")
