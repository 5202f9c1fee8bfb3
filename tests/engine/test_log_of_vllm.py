"""What vLLM's log shows is the operator's choice."""

import os
from collections.abc import Iterator
from unittest import mock

import pytest

from app.engine.build import set_log_of_vllm
from app.engine.worker.failures import IS_VLLM_SILENT
from app.settings import Settings


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """One of its own, without variables of vLLM."""
    with mock.patch.dict(os.environ, {}, clear=True):
        yield


def variables() -> dict[str, str]:
    """Those that were set, without pytest's own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


def test_it_is_silent_by_default() -> None:
    """Warnings of Python and torch too."""
    set_log_of_vllm(Settings())
    assert os.environ[IS_VLLM_SILENT] == "0"
    assert os.environ["PYTHONWARNINGS"] == "ignore"


def test_it_tells_everything_at_the_level_debug() -> None:
    """Or as much as the operator wants."""
    set_log_of_vllm(Settings(log_level="debug"))
    assert variables() == {"VLLM_LOGGING_LEVEL": "DEBUG"}
    os.environ["VLLM_LOGGING_LEVEL"] = "INFO"
    set_log_of_vllm(Settings(log_level="debug"))
    assert variables() == {"VLLM_LOGGING_LEVEL": "INFO"}


@pytest.mark.parametrize("name", ["VLLM_LOGGING_LEVEL", "VLLM_LOGGING_CONFIG_PATH"])
def test_variables_of_vllm_win(name: str) -> None:
    """Its log is then as vLLM writes it."""
    os.environ[name] = "INFO"
    set_log_of_vllm(Settings())
    assert variables() == {name: "INFO"}


def test_options_of_vllm_win() -> None:
    """It refuses a configuration of a log that it is not to set up."""
    set_log_of_vllm(Settings(engine_args=("--logging-config.formatter", "json")))
    assert variables() == {}
