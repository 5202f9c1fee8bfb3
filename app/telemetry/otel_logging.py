"""What OpenTelemetry's own loggers say: nothing to the log, and to us why the collector takes no spans."""

import logging

EXPORTER = "opentelemetry.exporter"
"""The logger that knows why."""

SILENT = (EXPORTER, "opentelemetry.sdk", "opentelemetry.trace")
"""Loggers that would say every few seconds that the collector is away, or write into the log what is wrong with a caller's headers."""


class Reason(logging.Handler):
    """Remembers the first of what the exporter logs, which says more than what follows from it. Others may quote what a client wrote."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""
        logging.getLogger(EXPORTER).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        self.text = self.text or record.getMessage()[:300]

    def close(self) -> None:
        """Listen no more."""
        logging.getLogger(EXPORTER).removeHandler(self)
        super().close()


def silence() -> None:
    """For good: the exporter's thread may outlive the tracer, and Python writes to standard error what no handler takes."""
    for name in SILENT:
        logger = logging.getLogger(name)
        logger.propagate = False
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
