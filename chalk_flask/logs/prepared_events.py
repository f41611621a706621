"""Events of frequent messages, many of which share members."""

from __future__ import annotations

import logging
import os
from time import time
from typing import Final

from chalk_flask.logs.events import LogValue, make_record, members_of

__all__ = ["PreparedEvent", "frequent_event_of", "varying_members_of"]

_FREQUENT_EVENT: Final = "frequent_event"
_VARYING: Final = "varying_members"
"""Names of the attributes of a log record."""


class PreparedEvent:
    """Event with members that all of its messages share. Thread-safe.

    A message takes less time than with `log_event`: it copies a prepared record, and formatters encode the shared
    members once. Its record does not name the thread.
    """

    def __init__(self, logger: logging.Logger, level: int, event: str, message: str, **members: LogValue) -> None:
        """Prepare the event. Members that are None are left out. Raises ValueError for an unknown event."""
        self._logger, self._level = logger, level
        self.record = make_record(logger, level, event, message, members)
        self.members = members_of(self.record)
        self._attributes = {**self.record.__dict__, "thread": None, "threadName": None, _FREQUENT_EVENT: self}

    def log(self, **members: str | float) -> None:
        """Log a message with further members."""
        if self._logger.isEnabledFor(self._level):
            now = time()
            record = logging.LogRecord.__new__(logging.LogRecord)
            record.__dict__ = {
                **self._attributes,
                "created": now,
                "msecs": float(int(now % 1 * 1000)),
                "relativeCreated": self.record.relativeCreated + (now - self.record.created) * 1000,
                "process": os.getpid(),
                "members": {**self.members, **members},
                _VARYING: members,
            }
            self._logger.handle(record)


def frequent_event_of(record: logging.LogRecord) -> PreparedEvent | None:
    """Return the frequent event of a record; None if its event is not frequent, or if it has none."""
    event: PreparedEvent | None = record.__dict__.get(_FREQUENT_EVENT)
    return event


def varying_members_of(record: logging.LogRecord) -> dict[str, str | float]:
    """Return the members of a record of a frequent event that other messages do not share."""
    varying: dict[str, str | float] = record.__dict__[_VARYING]
    return varying
