"""Removal of dynamic paths without values from the table of paths."""

from __future__ import annotations

import sqlite3
import time

__all__ = ["PathCleaner"]

_PAUSE_FACTOR = 20
"""Length of the pause after a run, as a multiple of the run. A run reads an index of all values."""

_DELETE_UNUSED = "DELETE FROM _paths WHERE id NOT IN (SELECT path FROM _many)"


class PathCleaner:
    """Remover of unused paths, which takes at most a twentieth of the time. The caller holds the write lock."""

    def __init__(self) -> None:
        self._is_needed = False
        self._next_run = 0.0

    def run_if_due(self, connection: sqlite3.Connection, frees_paths: bool) -> None:
        """Remove unused paths in the transaction of the connection.

        Does nothing if no transaction since the last run may have left a path without values. It does nothing shortly
        after the last run either; then a later transaction removes the paths.
        """
        self._is_needed = self._is_needed or frees_paths
        start = time.monotonic()
        if not self._is_needed or start < self._next_run:
            return
        connection.execute(_DELETE_UNUSED)
        end = time.monotonic()
        self._is_needed, self._next_run = False, end + _PAUSE_FACTOR * (end - start)
