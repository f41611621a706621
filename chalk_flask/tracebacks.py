"""Errors in logs: their locations, without personal data and secrets, and the log level of repeated errors."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

__all__ = ["RepeatedErrors", "error_location"]


def error_location(error: BaseException, max_frames: int = 1) -> str:
    """Return the type of an error and its innermost frames, outermost first; its message is left out.

    Messages of errors quote data, which may be a secret or a person's. An example with `max_frames=2`:
    `KeyError at chalk_flask/api/errors.py:98 in _on_failure > backends/sqlite/pool.py:41 in acquire`.
    """
    frames = traceback.extract_tb(error.__traceback__)[-max_frames:]
    kind = type(error).__name__
    if not frames:
        return kind
    places = (f"{_short(frame.filename)}:{frame.lineno} in {frame.name}" for frame in frames)
    return f"{kind} at {' > '.join(places)}"


class RepeatedErrors:
    """Memory of the last error of a background task, so that the log shows an error that lasts only once."""

    def __init__(self) -> None:
        self._last = ""

    def level(self, message: str, first: int = logging.WARNING) -> int:
        """Return the log level of an error: `first` for a new message, else DEBUG. An empty message is never new."""
        is_new = bool(message) and message != self._last
        self._last = message or self._last
        return first if is_new else logging.DEBUG

    def clear(self) -> None:
        """Forget the last error, because the task has succeeded."""
        self._last = ""


def _short(filename: str) -> str:
    """Return the last three parts of a path, which distinguish modules of the same name."""
    return "/".join(Path(filename).parts[-3:])
