"""Locations of errors, for logs, which must not contain personal data or secrets."""

from __future__ import annotations

import traceback
from pathlib import Path

__all__ = ["error_location"]


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


def _short(filename: str) -> str:
    """Return the last three parts of a path, which distinguish modules of the same name."""
    return "/".join(Path(filename).parts[-3:])
