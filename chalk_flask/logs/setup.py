"""Set-up of the log of a process, according to the settings."""

from __future__ import annotations

import logging
import sys

from chalk_flask.logs.formatters import JsonFormatter, PlainFormatter
from chalk_flask.settings import Settings

__all__ = ["configure_logging"]


def configure_logging(settings: Settings) -> None:
    """Log to standard error with the level and in the format of the settings.

    Does nothing if the program has set up its log itself, as a WSGI server or a test does.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else PlainFormatter())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
