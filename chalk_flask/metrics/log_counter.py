"""Number of log messages by level, as a metric: an alert on errors needs no search in the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from chalk_flask.metrics.service_metrics import ServiceMetrics

__all__ = ["counted_log_messages"]


class _CountingHandler(logging.Handler):
    """Handler that counts messages and writes nothing."""

    def __init__(self, metrics: ServiceMetrics) -> None:
        super().__init__(logging.WARNING)
        self._metrics = metrics

    def emit(self, record: logging.LogRecord) -> None:
        """Count a message."""
        self._metrics.count_log_message(record.levelname.lower())


@contextmanager
def counted_log_messages(metrics: ServiceMetrics) -> Iterator[None]:
    """Count the warnings and errors of this process until the block ends."""
    handler = _CountingHandler(metrics)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
