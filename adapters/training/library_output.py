"""Switches off the libraries' telemetry, progress bars and warnings, which do not help the user of a command."""

import logging
import os
import sys
import warnings

import datasets
import transformers


def silence_libraries() -> None:
    """Do so for the rest of the process. Warnings stay where the user asked Python for them (`-W`, PYTHONWARNINGS)."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        logging.getLogger("transformers").setLevel(logging.ERROR)
