"""Observer of files: a package is complete if its size and time no longer change, and it has the end of a ZIP."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from chalk_flask.files import open_regular_file

__all__ = ["MAX_INCOMPLETE_SECONDS", "FileObserver"]

MAX_INCOMPLETE_SECONDS: Final = 3600.0
"""Time after which a file without the end of a ZIP is imported although it is incomplete, so that it is rejected."""

_State: TypeAlias = tuple[int, int, int]
"""Inode number, size in bytes, and time of the last change in nanoseconds."""


@dataclass(slots=True)
class _Observation:
    state: _State
    since: float
    """Time of the clock since which the file has this state."""
    has_end: bool | None = None
    """True if the file has the end of a ZIP; None if that was not examined in this state."""


class FileObserver:
    """Observer that finds files that have not changed for `seconds`. `clock` returns seconds. Not thread-safe."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._observed: dict[Path, _Observation] = {}

    @property
    def paths(self) -> Set[Path]:
        """Observed files, complete or not."""
        return self._observed.keys()

    def observe(self, files: Iterable[tuple[Path, os.stat_result]]) -> list[Path]:
        """Compare the present files with those of the last call, and return the complete ones, oldest first."""
        now, observed = self._clock(), {}
        for path, status in files:
            state = (status.st_ino, status.st_size, status.st_mtime_ns)
            former = self._observed.get(path)
            observed[path] = former if former and former.state == state else _Observation(state, now)
        self._observed = observed
        complete = [path for path, observation in observed.items() if self._is_complete(path, observation, now)]
        return sorted(complete, key=lambda path: (observed[path].state[2], path.name))

    @property
    def incomplete(self) -> int:
        """Number of files that have not changed for `seconds`, and lack the end of a ZIP."""
        return sum(observation.has_end is False for observation in self._observed.values())

    def forget(self, path: Path) -> None:
        """Stop observing a file."""
        self._observed.pop(path, None)

    def _is_complete(self, path: Path, observation: _Observation, now: float) -> bool:
        unchanged_seconds = now - observation.since
        if unchanged_seconds < self._seconds:
            return False
        if observation.has_end is None:
            observation.has_end = _has_end(path)
        return observation.has_end or unchanged_seconds >= max(self._seconds, MAX_INCOMPLETE_SECONDS)


def _has_end(path: Path) -> bool:
    """Return True if a file has the record at the end of a ZIP, or cannot be read: its import reports why."""
    try:
        with open_regular_file(path) as file:
            return zipfile.is_zipfile(file)
    except OSError:
        return True
