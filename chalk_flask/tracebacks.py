"""How a fault of ours is logged: where it happened and of what kind it was, but nothing of what was at hand."""

from __future__ import annotations

import traceback
from pathlib import Path

__all__ = ["error_location"]


def error_location(error: BaseException) -> str:
    """The type of an error and the place that raised it: the words of a stranger's error may hold what is secret."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    return f"{type(error).__name__} in {Path(frames[-1].filename).name}, line {frames[-1].lineno}"
