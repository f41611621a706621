"""Detection of packages that are complete: their size and time no longer change, and the end of the ZIP is there."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from chalk_flask.files import open_regular_file

__all__ = ["SettlingFiles"]

MAX_INCOMPLETE_SECONDS: Final = 3600.0
"""Time after which a file without the end of a ZIP is imported although it is incomplete, so that it is rejected."""

_State: TypeAlias = tuple[int, int, int]
"""Number of the file, size in bytes, and time of the last change in nanoseconds."""


@dataclass(slots=True)
class _Observation:
    state: _State
    since: float
    has_end: bool | None = None
    """True if the file has the end of a ZIP. None if that was not examined in this state."""


class SettlingFiles:
    """Files that are observed until they have not changed for `seconds`. `clock` returns seconds."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._observed: dict[Path, _Observation] = {}

    @property
    def count(self) -> int:
        """Number of observed files, complete or not."""
        return len(self._observed)

    def observe(self, files: Iterable[tuple[Path, os.stat_result]]) -> list[Path]:
        """Take the present files, and return those that are complete, oldest first."""
        now, observed = self._clock(), {}
        for path, status in files:
            state = (status.st_ino, status.st_size, status.st_mtime_ns)
            known = self._observed.get(path)
            observed[path] = known if known and known.state == state else _Observation(state, now)
        self._observed = observed
        complete = [path for path, observation in observed.items() if self._is_complete(path, observation, now)]
        return sorted(complete, key=lambda path: (observed[path].state[2], path.name))

    def forget(self, path: Path) -> None:
        """Stop observing a file."""
        self._observed.pop(path, None)

    def _is_complete(self, path: Path, observation: _Observation, now: float) -> bool:
        unchanged = now - observation.since
        if unchanged < self._seconds:
            return False
        if observation.has_end is None:
            observation.has_end = _has_end(path)
        return observation.has_end or unchanged >= max(self._seconds, MAX_INCOMPLETE_SECONDS)


def _has_end(path: Path) -> bool:
    """Return True if a file has the record at the end of a ZIP, or cannot be read: its import then says why."""
    try:
        with open_regular_file(path) as file:
            return zipfile.is_zipfile(file)
    except OSError:
        return True
