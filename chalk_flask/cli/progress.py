"""Progress of an import as one line on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO, TypeAlias

__all__ = ["Progress", "progress_line"]

Progress: TypeAlias = Callable[[str, int], None]

REDRAW_SECONDS = 0.1
"""Minimum time between two numbers of the same phase."""

_CLEAR = "\r\x1b[K"


@contextmanager
def progress_line(stream: TextIO | None = None) -> Iterator[Progress | None]:
    """Yield a function that takes a phase and its row count and redraws one line. The line is cleared at the end.

    Yields None if stderr (or the stream) is not a terminal.
    """
    out = stream or sys.stderr
    if not out.isatty():
        yield None
        return
    try:
        yield _ProgressLine(out).show
    finally:
        out.write(_CLEAR)
        out.flush()


class _ProgressLine:
    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._phase = ""
        self._since = self._drawn = 0.0

    def show(self, phase: str, rows: int) -> None:
        now = time.monotonic()
        if phase != self._phase:
            self._phase, self._since = phase, now
        elif now - self._drawn < REDRAW_SECONDS:
            return
        self._drawn = now
        elapsed = now - self._since
        rate = f", {rows / elapsed:,.0f} a second" if rows and elapsed >= 0.1 else ""
        counted = f": {rows:,} rows{rate}" if rows else ""
        self._out.write(f"{_CLEAR}{phase}{counted}")
        self._out.flush()
