"""Log of slow statements of the database."""

from __future__ import annotations

import logging
import re

from backends import Backend
from chalk_flask.logs.events import LogValue, log_event

__all__ = ["log_slow_statements"]

log = logging.getLogger(__name__)

MAX_STATEMENT_LENGTH = 1000
"""Maximum number of characters of a statement in the log."""

_PLACEHOLDERS = re.compile(r"\?(?:, \?)+")


def log_slow_statements(store: Backend, milliseconds: int) -> None:
    """Log each statement of a store that takes longer; none if `milliseconds` is 0."""
    if milliseconds:
        store.watch_statements(milliseconds / 1000, _log_statement)


def _log_statement(text: str, seconds: float) -> None:
    shortened = _PLACEHOLDERS.sub("?, ...", " ".join(text.split()))
    milliseconds = round(seconds * 1000, 1)
    details: dict[str, LogValue] = {"ms": milliseconds, "statement": shortened[:MAX_STATEMENT_LENGTH]}
    log_event(log, logging.WARNING, "statement.slow", "a statement was slow", **details)
