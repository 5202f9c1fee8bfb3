"""Log lines, as text or as JSON, each with the request's id where there is one. No line contains a prompt or an answer."""

import json
import logging
import time
import warnings


class JsonLines(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """A JSON object with time, level, logger, message, and where they exist the request's id and the exception."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (request_id := getattr(record, "request_id", None)) is not None:
            line["request_id"] = request_id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class TextLines(logging.Formatter):
    """Lines for people: time, level and message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """The line, with the request's id at its end."""
        line = super().format(record)
        request_id = getattr(record, "request_id", None)
        return line if request_id is None else f"{line} [{request_id}]"


class OneLine(logging.Filter):
    """Takes the traceback from records of vLLM, which in one line say as much to an operator."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to show the record: always."""
        if record.exc_info:
            record.exc_info, record.exc_text = None, None
        return True


def configure_logging(level: str, form: str) -> None:
    """Send the logs of ponder and uvicorn from `level` on to standard error, as JSON or as text by `form`.

    From level "debug" on, vLLM writes its own log. Above it, its errors are lines of this one, and its warnings are left out.
    """
    for name in ("ponder", "uvicorn"):
        _send(name, level, form)
    if level != "debug":
        vllm = _send("vllm", "error", form)
        vllm.addFilter(OneLine())
        warnings.simplefilter("ignore")


def _send(name: str, level: str, form: str) -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    logger = logging.getLogger(name)
    logger.handlers = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
    return handler
