"""Progress of a long command as one line on a terminal: phase, rows, percentage and remaining time."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as ProgressBar
    from rich.progress import TaskID

    from backends import OnProgress

__all__ = ["progress_line"]


REDRAW_SECONDS: Final = 0.1
"""Minimum time between two numbers of the same phase."""


@contextmanager
def progress_line(stream: TextIO | None = None) -> Iterator[OnProgress | None]:
    """Yield a function that redraws one line. The line is cleared at the end.

    Yields None if stderr (or the stream) is not a terminal. The environment variable NO_COLOR switches colors off.
    """
    out = stream or sys.stderr
    if not out.isatty():
        yield None
        return
    with _progress_bar(out) as bar:
        yield _PhaseProgress(bar).show


def _progress_bar(out: TextIO) -> ProgressBar:
    from rich.console import Console  # its modules take time to import
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as ProgressBar

    return ProgressBar(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]}", markup=False),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(file=out, highlight=False),
        transient=True,
        auto_refresh=False,  # no thread competes with the import
    )


class _PhaseProgress:
    """Progress of the current phase, which replaces that of the former phase."""

    def __init__(self, bar: ProgressBar) -> None:
        self._bar = bar
        self._task: TaskID | None = None
        self._phase = ""
        self._since = self._drawn = 0.0

    def show(self, phase: str, row_count: int, expected_count: int | None) -> None:
        """Redraw the line, if it is another phase or some time has passed."""
        now = time.monotonic()
        if phase == self._phase and now - self._drawn < REDRAW_SECONDS:
            return
        self._drawn = now
        if self._task is None or phase != self._phase:
            self._begin(phase, now)
        assert self._task is not None
        self._bar.update(
            self._task,
            completed=row_count,
            total=None if expected_count is None else max(expected_count, row_count),
            rows=_rows_text(row_count, now - self._since),
            refresh=True,
        )

    def _begin(self, phase: str, now: float) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._phase, self._since = phase, now
        self._task = self._bar.add_task(phase, total=None, rows="")


def _rows_text(rows: int, seconds: float) -> str:
    rate = f", {rows / seconds:,.0f} a second" if rows and seconds >= 0.1 else ""
    return f"{rows:,} rows{rate}" if rows else ""
