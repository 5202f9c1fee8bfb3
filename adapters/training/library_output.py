"""Keeps the libraries from speaking: to their makers, and of what concerns only those who write them, to whoever waits for a run."""

import logging
import os
import sys
import warnings

import datasets
import transformers


def quiet() -> None:
    """For the rest of the process; warnings stay where Python was told to show them."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        logging.getLogger("transformers").setLevel(logging.ERROR)
