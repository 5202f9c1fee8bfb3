"""Log lines have the request's id in both formats, and never contain a word of a prompt."""

import json
import logging

import pytest

from app.logs import JsonLines, TextLines, configure_logging

pytestmark = pytest.mark.anyio


def record(**extra: object) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "ponder", "levelname": "INFO", "msg": "hello %s", "args": ("you",), **extra})


def test_json_lines_have_fields_for_filters() -> None:
    """A line has time, level, logger, message and request id, and the exception when there is one."""
    line = json.loads(JsonLines().format(record(request_id="r1")))
    assert (line["level"], line["message"], line["request_id"]) == ("info", "hello you", "r1")
    failed = record(exc_info=(ValueError, ValueError("broken"), None))
    assert "broken" in json.loads(JsonLines().format(failed))["exception"]


def test_text_lines_end_with_the_request() -> None:
    """A line without a request ends with the message."""
    assert TextLines().format(record(request_id="r1")).endswith("hello you [r1]")
    assert TextLines().format(record()).endswith("hello you")


def test_configuring_sets_level_and_form() -> None:
    """Both ponder's and uvicorn's loggers get the level and the format."""
    loggers = [logging.getLogger(name) for name in ("ponder", "uvicorn")]
    configure_logging("warning", "json")
    assert [logger.level for logger in loggers] == [logging.WARNING] * 2
    assert all(isinstance(logger.handlers[0].formatter, JsonLines) for logger in loggers)


async def test_no_line_contains_a_prompt_or_an_answer(serve, caplog: pytest.LogCaptureFixture) -> None:
    """Each request has one line, with path, status and the id that the reply carries."""
    with caplog.at_level(logging.DEBUG, logger="ponder"), caplog.at_level(logging.DEBUG):
        async with serve(["the secret answer"]) as served:
            response = await served.chat("a secret question", stream=True)
            await served.chat("a secret question", frobnicate="a secret field")
    assert "secret" not in caplog.text
    [line, *_] = [one for one in caplog.records if one.name == "ponder.access"]
    assert line.getMessage().startswith("POST /v1/chat/completions 200 ")
    assert line.request_id == response.headers["x-request-id"]
