"""`ponder calibrate`: measures a model and builds its policy."""

import sys

import typer

from adapters.training.errors import TrainingError
from app.cli.client import fail, need
from app.engine.weights.conversions import ModelUnavailable
from app.lab.calibration.options import DEPRECATED, CalibrateOptions
from app.lab.calibration.pool import PoolRefused
from app.settings import BadOptions, parse_options


def calibrate(context: typer.Context) -> None:
    """Measure what each plan costs and gains on questions with known answers."""
    try:
        options = parse_options(CalibrateOptions, context.command_path, context.args)
    except BadOptions as error:
        fail(error)
    for old, new in DEPRECATED.items():
        if any(argument.partition("=")[0] == f"--{old}" for argument in context.args):
            typer.echo(f"ponder: --{old} is deprecated and will be removed in the next release: use --{new}", err=True)
    need("calibrate", "sklearn", "matplotlib")
    from app.lab.calibration.command import calibrate as run  # noqa: PLC0415 - takes seconds to import

    try:
        run(options)
    except (ModelUnavailable, PoolRefused, TrainingError) as error:
        fail(error)
    except KeyboardInterrupt:
        sys.exit("ponder: stopped; the same command resumes after the last question")
