"""Progress of a running job, in a small file that each update replaces.

The store cannot hold it, because the import holds the write lock of the store while it writes.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from chalk_flask.files import open_private

__all__ = ["JobProgress", "PhaseProgress", "ProgressFile", "ProgressWriter"]

WRITE_INTERVAL_SECONDS = 0.25
"""Minimum time between two writes in the same phase."""


@dataclass(frozen=True, slots=True)
class PhaseProgress:
    """Progress of one phase: its name, the number of rows so far, the expected number, and its duration in seconds.

    The name is that of a file, or "writing" and that name. `total` is None if it is unknown.
    """

    name: str
    count: int
    total: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class JobProgress:
    """Progress of a job: the phases so far, of which the last one is the current one, and the duration in seconds."""

    phases: tuple[PhaseProgress, ...]
    seconds: float

    @property
    def phase(self) -> str:
        """Name of the current phase."""
        return self.phases[-1].name

    @property
    def count(self) -> int:
        """Number of rows so far in the current phase."""
        return self.phases[-1].count

    @property
    def total(self) -> int | None:
        """Expected number of rows in the current phase; None if it is unknown."""
        return self.phases[-1].total

    def to_dict(self) -> dict[str, Any]:
        """Return the progress as a JSON object."""
        return {"phase": self.phase, "count": self.count, "total": self.total, **asdict(self)}


class ProgressFile:
    """File with the progress of one job. One process writes it, and any process reads it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_suffix(".part")

    def read(self) -> JobProgress | None:
        """Return the progress, or None if the job has not begun or has ended."""
        try:
            data = orjson.loads(self._path.read_bytes())
            return JobProgress(tuple(PhaseProgress(**phase) for phase in data["phases"]), data["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, progress: JobProgress) -> None:
        """Replace the progress. An error is ignored, because the import is more important than its progress."""
        body = orjson.dumps(asdict(progress))
        with contextlib.suppress(OSError):
            with open(self._part, "wb", opener=open_private) as file:
                file.write(body)
            self._part.replace(self._path)

    def remove(self) -> None:
        """Delete the file. Does nothing if there is none."""
        for path in (self._part, self._path):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


class ProgressWriter:
    """Callback of an import that writes its progress."""

    def __init__(self, file: ProgressFile) -> None:
        self._file = file
        self._phases: list[PhaseProgress] = []
        self._start = self._phase_start = time.monotonic()
        self._next_write = 0.0

    def __call__(self, phase: str, count: int, total: int | None) -> None:
        """Write the phase, its number of rows and the expected number.

        Does nothing if the last write was less than WRITE_INTERVAL_SECONDS ago.
        """
        now = time.monotonic()
        is_new = not self._phases or self._phases[-1].name != phase
        if is_new:
            if any(earlier.name == phase for earlier in self._phases):
                self._phases.clear()  # the import compares again
            self._phase_start = now
            self._phases.append(PhaseProgress(phase, count, total, 0.0))
        seconds = round(now - self._phase_start, 2)
        self._phases[-1] = replace(self._phases[-1], count=count, total=total, seconds=seconds)
        if now < self._next_write and not is_new:
            return
        self._file.write(JobProgress(tuple(self._phases), round(now - self._start, 2)))
        self._next_write = now + WRITE_INTERVAL_SECONDS
