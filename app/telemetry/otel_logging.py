"""Silences OpenTelemetry's own loggers, and reads from them why an export failed.

Left alone, they write a line every few seconds while the collector is away, and they quote what is wrong with a caller's headers,
so that any client could write into the log. The exporter itself returns no reason, only that it failed.
"""

import logging

EXPORTER = "opentelemetry.exporter"
"""The logger that says why an export failed."""

SILENT = (EXPORTER, "opentelemetry.sdk", "opentelemetry.trace")
"""The loggers that are silenced."""


class FailureReason(logging.Handler):
    """Keeps the first message that the exporter logs. Later ones only follow from it, and other loggers quote clients."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""
        logging.getLogger(EXPORTER).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message of a record, at most 300 characters, if there is none yet."""
        self.text = self.text or record.getMessage()[:300]

    def close(self) -> None:
        """Stop listening to the exporter."""
        logging.getLogger(EXPORTER).removeHandler(self)
        super().close()


def silence() -> None:
    """Keep OpenTelemetry's loggers from writing anything, until the process ends.

    It cannot be undone, because the exporter's thread may outlive the tracer. Each logger gets a handler, since Python writes the
    warnings of loggers without one to standard error.
    """
    for name in SILENT:
        logger = logging.getLogger(name)
        logger.propagate = False
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
