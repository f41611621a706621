"""Pauses of long queries, so that together they leave processors to short ones."""

from __future__ import annotations

import os
import time

__all__ = ["QueryPacer"]

_PROCESSORS = max((os.cpu_count() or 1) // 2, 1)
"""Number of processors that all long queries of a process use together."""

_MAX_SLICE_SECONDS = 0.02
"""Maximum time between two pauses that counts as work of a query. The rest is time that other threads took."""

_ACTIVE_SECONDS = 0.5
"""Time after its last pause for which a query counts as running."""


class QueryPacer:
    """Pauses of all long queries of a process. Thread-safe.

    A query that runs beside others pauses for as long as each of them works.
    """

    def __init__(self) -> None:
        self._resumed: dict[object, float] = {}

    def pause(self, connection: object, max_seconds: float) -> None:
        """Sleep while other long queries have their turn. `connection` is the one that runs the query."""
        now = time.monotonic()
        worked = min(now - self._resumed.get(connection, now), _MAX_SLICE_SECONDS)
        self._resumed[connection] = now
        active = sum(now - resumed < _ACTIVE_SECONDS for resumed in list(self._resumed.values()))
        if active > _PROCESSORS:
            time.sleep(min(worked * (active / _PROCESSORS - 1), max_seconds))
            self._resumed[connection] = time.monotonic()

    def forget(self, connection: object) -> None:
        """Forget the query of a connection, which has ended."""
        self._resumed.pop(connection, None)
